"""Ground truths in other words: what `scorer_errors.py` changes and a scorer must not mind."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

Change = Callable[[str], "str | None"]
"""An answer to its changed form; None where the change does not apply."""

INTEGER = re.compile(r"-?\d+")
SIMPLE_FRACTION = re.compile(r"(-?)\\[dt]?frac\s*\{?(\d+)\}?\s*\{(\d+)\}|(-?)\\frac(\d)(\d)")
DECIMAL = re.compile(r"-?\d*\.\d+")
PLAIN_TERM = re.compile(r"-?(?:\d+|\\frac\{\d+\}\{\d+\}|\d*\s*\\sqrt\{\d+\}|\d*\s*\\pi)")


def bare(answer: str) -> str:
    """Without the dollar signs around it."""
    text = answer.strip()
    return text[1:-1].strip() if re.fullmatch(r"\$[^$]*\$", text) else text


def replaced(pattern: str, replacement: str) -> Change:
    compiled = re.compile(pattern)

    def change(answer: str) -> str | None:
        changed = compiled.sub(replacement, answer)
        return changed if changed != answer else None

    return change


def top_level_parts(text: str) -> list[str]:
    """Split at the commas outside of all brackets."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [part.strip() for part in [*parts, text[start:]]]


def reordered_list(answer: str) -> str | None:
    text = bare(answer)
    inner, opening, closing = text, "", ""
    if text.startswith(r"\{") and text.endswith(r"\}") and "|" not in text:
        inner, opening, closing = text[2:-2], r"\{", r"\}"
    if "$" in text or "{,}" in text or re.search(r"\\text|and|or|:|\\!", text):
        return None
    parts = top_level_parts(inner)
    if len(parts) < 2 or re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        return None
    return opening + ", ".join(parts[::-1]) + closing


def other_thousands(answer: str) -> str | None:
    """A number of four digits and more with commas, or without those it has."""
    text = bare(answer)
    if re.fullmatch(r"\d{4,}", text):
        return f"{int(text):,}"
    joined = re.sub(r",\\!\s*|\{,\}", "", text) if re.fullmatch(r"\d{1,3}(?:(?:,\\!\s*|\{,\})\d{3})+", text) else text
    return joined.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+", joined) or joined != text else None


def spaced_thousands(answer: str) -> str | None:
    text = bare(answer)
    return f"{int(text):,}".replace(",", "{,}") if re.fullmatch(r"\d{4,}", text) else None


def dropped_unit(answer: str) -> str | None:
    text = bare(answer)
    for pattern in (
        r"(?<=[\d}])\s*(?:\\,|\\;|\\ )?\s*\\(?:text|mbox)\s*\{[^{}]*\}(?:\^\d)?\.?$",
        r"\^\{?\\circ\}?$",
        r"\\%$",
    ):
        shorter = re.sub(pattern, "", text)
        if shorter != text and re.search(r"\d", shorter) and not re.search(r",|\\(?:sin|cos|tan)", shorter):
            return shorter
    return re.sub(r"^\\\$\s*", "", text) if text.startswith(r"\$") else None


def with_unit(answer: str) -> str | None:
    text = bare(answer)
    return rf"{text}\text{{ cm}}" if re.fullmatch(r"\d+(\.\d+)?", text) else None


def with_currency(answer: str) -> str | None:
    text = bare(answer)
    return rf"\${text}" if re.fullmatch(r"\d+(\.\d+)?", text) else None


def as_fraction(answer: str) -> str | None:
    text = bare(answer)
    if not DECIMAL.fullmatch(text):
        return None
    value = Fraction(text if not text.startswith(".") else "0" + text)
    return rf"{'-' if value < 0 else ''}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def parse_fraction(text: str) -> tuple[str, int, int] | None:
    match = SIMPLE_FRACTION.fullmatch(text)
    if not match:
        return None
    sign, above, below = (group or "" for group in (match.groups()[:3] if match[3] else match.groups()[3:]))
    return (sign, int(above), int(below)) if int(below) else None


def as_decimal(answer: str) -> str | None:
    """Where it ends: the denominator has no prime factors but 2 and 5."""
    parsed = parse_fraction(bare(answer))
    if parsed is None:
        return None
    sign, above, below = parsed
    places = next((n for n in range(8) if (above * 10**n) % below == 0), None)
    if places is None:
        return None
    digits = str(above * 10**places // below).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}.0"


def as_slash(answer: str) -> str | None:
    parsed = parse_fraction(bare(answer))
    return "{}{}/{}".format(*parsed) if parsed else None


def as_mixed(answer: str) -> str | None:
    parsed = parse_fraction(bare(answer))
    if parsed is None or parsed[1] < parsed[2] or parsed[1] % parsed[2] == 0:
        return None
    sign, above, below = parsed
    return rf"{sign}{above // below}\frac{{{above % below}}}{{{below}}}"


def unreduced(answer: str) -> str | None:
    parsed = parse_fraction(bare(answer))
    return rf"{parsed[0]}\frac{{{parsed[1] * 3}}}{{{parsed[2] * 3}}}" if parsed else None


def named(answer: str) -> str | None:
    text = bare(answer)
    return f"x = {text}" if not re.search(r"[=<>,a-zA-Z$]", re.sub(r"\\(?:[dt]?frac|sqrt|pi)", "", text)) else None


def commuted(answer: str) -> str | None:
    """Two terms of a sum, the other way round."""
    text = bare(answer)
    match = re.fullmatch(rf"({PLAIN_TERM.pattern})\s*([+-])\s*({PLAIN_TERM.pattern})", text)
    if not match or match[3].startswith("-"):
        return None
    first, sign, second = match.groups()
    return f"{'-' if sign == '-' else ''}{second} {'' if first.startswith('-') else '+'} {first}"


def root_inside(answer: str) -> str | None:
    match = re.fullmatch(r"(\d+)\s*\\sqrt\{?(\d+)\}?", bare(answer))
    return rf"\sqrt{{{int(match[1]) ** 2 * int(match[2])}}}" if match else None


def dotted(answer: str) -> str | None:
    text = re.sub(r"(\d)\s*(\\sqrt|\\pi)", r"\1 \\cdot \2", bare(answer))
    return text if text != bare(answer) else None


def tight(answer: str) -> str | None:
    text = bare(answer)
    if "text" in text or "mbox" in text or re.search(r"[A-Za-z] |\d \d|or|and", re.sub(r"\\[a-z]+ ?", "", text)):
        return None
    # The space that ends a command stays where a letter follows.
    return re.sub(r"(?<!\\) +(?![a-zA-Z])", "", text) if " " in text else None


def loose(answer: str) -> str | None:
    text = bare(answer)
    spaced = re.sub(r"(?<=[\w)}\]])([-+=<>])(?=[\w\\({])", r" \1 ", text)
    if not re.search(r"text|mbox|\d,\d{3}(?!\d)", text):
        spaced = re.sub(r",(?=[-\w\\(])(?!\\!)(?<!\{,)", ", ", spaced)
    return spaced if spaced != text else None


def sized(answer: str) -> str | None:
    text = bare(answer)
    if r"\left" in text:
        return text.replace(r"\left", "").replace(r"\right", "")
    pairs = re.fullmatch(r"([(\[])([^()\[\]]*)([)\]])", text)
    return rf"\left{pairs[1]}{pairs[2]}\right{pairs[3]}" if pairs else None


def as_inequality(answer: str) -> str | None:
    """A half-open interval: the open ones may be points."""
    match = re.fullmatch(
        r"([(\[])([^(),\[\]]+),([^(),\[\]]+)([)\]])", bare(answer).replace(r"\left", "").replace(r"\right", "")
    )
    if not match or match[1] + match[4] not in ("(]", "[)"):
        return None
    low, high = match[2].strip(), match[3].strip()
    if "infty" in high:
        return rf"x \geq {low}"
    if "infty" in low:
        return rf"x \leq {high}"
    signs = {"(": "<", ")": "<", "[": r"\leq", "]": r"\leq"}
    return f"{low} {signs[match[1]]} x {signs[match[4]]} {high}"


def choice_letter(answer: str) -> str | None:
    match = re.fullmatch(r"\\text\{\(?([A-Z])\)?\}|([A-Z])", bare(answer))
    return f"({match[1] or match[2]})" if match else None


def plain_text(answer: str) -> str | None:
    match = re.fullmatch(r"\\(?:text|mbox)\{([A-Za-z]{2,})\}", bare(answer))
    return match[1] if match else None


def bold(answer: str) -> str | None:
    text = bare(answer)
    return rf"\mathbf{{{text}}}" if re.fullmatch(r"\d+", text) else None


def in_words_degrees(answer: str) -> str | None:
    text = re.sub(r"\^\{?\\circ\}?$", r"\\text{ degrees}", bare(answer))
    return text if text != bare(answer) and "," not in text and not re.search(r"\\(?:sin|cos|tan)", text) else None


def sign_inside(answer: str) -> str | None:
    parsed = re.fullmatch(r"-\s*(\\[dt]?frac)\{([^{}+-]*(?:\{[^{}]*\})?)\}(\{.*\})", bare(answer))
    return f"{parsed[1]}{{-{parsed[2]}}}{parsed[3]}" if parsed else None


def factor_in_front(answer: str) -> str | None:
    """Write a sqrt(b) / c as a/c sqrt(b), and the same for pi."""
    match = re.fullmatch(r"(-?)\\[dt]?frac\{(\d*)\s*(\\sqrt\{\d+\}|\\pi)\}\{(\d+)\}", bare(answer))
    return rf"{match[1]}\frac{{{match[2] or 1}}}{{{match[4]}}} {match[3]}" if match else None


def root_below(answer: str) -> str | None:
    """sqrt(a) / b as a / (b sqrt(a))."""
    match = re.fullmatch(r"\\[dt]?frac\{\\sqrt\{(\d+)\}\}\{(\d+)\}", bare(answer))
    return rf"\frac{{{match[1]}}}{{{match[2]}\sqrt{{{match[1]}}}}}" if match else None


def terms_reversed(answer: str) -> str | None:
    """A sum of more than one term, letters among them, from its last term to its first."""
    text = bare(answer)
    if re.search(r"[=<>,:()]|\\[bp]matrix|\\text|\\begin|\\cup|\\pm|\$|\\circ|%|or|\.$", text):
        return None
    depth, starts = 0, [0]
    for i, character in enumerate(text):
        depth += (character in "{[") - (character in "}]")
        if depth == 0 and character in "+-" and i > 0 and text[i - 1] not in "^_":
            starts.append(i)
    terms = [text[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
    if len(terms) < 2 or not all(terms):
        return None
    return " ".join(term if term[0] in "+-" else f"+{term}" for term in terms[::-1]).removeprefix("+")


def root_as_power(answer: str) -> str | None:
    match = re.fullmatch(r"(\d*)\s*\\sqrt\{(\d+)\}", bare(answer))
    if not match:
        return None
    factor = rf"{match[1]} \cdot " if match[1] else ""
    return f"{factor}{match[2]}^{{1/2}}"


def numbers_of_list(answer: str) -> list[str] | None:
    """Items of a list of numbers without brackets."""
    text = bare(answer)
    parts = top_level_parts(text)
    is_list = len(parts) > 1 and not re.search(
        r"[a-zA-Z$({:=!]", re.sub(r"\\(?:frac\{\d+\}\{\d+\}|sqrt\{\d+\}|pi)", "", text)
    )
    return parts if is_list and not re.search(r"(?<!\d)\d{1,3}(,\s?\d{3})+(?!\d)", text) else None


def list_as_set(answer: str) -> str | None:
    parts = numbers_of_list(answer)
    return r"\{" + ", ".join(parts) + r"\}" if parts and len(set(parts)) == len(parts) else None


def list_with_and(answer: str) -> str | None:
    parts = numbers_of_list(answer)
    return ", ".join(parts[:-1]) + r" \text{ and } " + parts[-1] if parts else None


def list_of_equations(answer: str) -> str | None:
    parts = numbers_of_list(answer)
    return ", ".join(f"x = {part}" for part in parts) if parts else None


def several_boxes(answer: str) -> str | None:
    parts = numbers_of_list(answer)
    return "} and \\boxed{".join(parts) if parts else None


def explicit_plus(answer: str) -> str | None:
    text = re.sub(r"(?<=[,\s(])\\infty", r"+\\infty", bare(answer))
    return text if text != bare(answer) else None


def time_in_capitals(answer: str) -> str | None:
    text = re.sub(r"\bp\.?m\b", "PM", re.sub(r"\ba\.?m\b", "AM", bare(answer)))
    return text if text != bare(answer) and ":" in text else None


def lower_case(answer: str) -> str | None:
    match = re.fullmatch(r"\\text\{([A-Z][a-z]+)\}", bare(answer))
    return rf"\text{{{match[1].lower()}}}" if match else None


def in_plain_words(answer: str) -> str | None:
    text = bare(answer)
    return f"{text} apples" if re.fullmatch(r"\d+", text) else None


def wrapped(before: str, after: str) -> Change:
    return lambda answer: None if "$" in bare(answer) else f"{before}{bare(answer)}{after}"


def around_number(before: str, after: str) -> Change:
    """Around a number without anything else."""

    def change(answer: str) -> str | None:
        text = bare(answer)
        return f"{before}{text}{after}" if re.fullmatch(r"-?\d+(\.\d+)?", text) else None

    return change


def array_in_brackets(answer: str) -> str | None:
    match = re.fullmatch(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", bare(answer), re.DOTALL)
    if not match or "begin" in match[1]:
        return None
    columns = "c" * (match[1].split(r"\\")[0].count("&") + 1)
    return rf"\left[\begin{{array}}{{{columns}}}{match[1]}\end{{array}}\right]"


def high_rows(answer: str) -> str | None:
    text = bare(answer)
    return text.replace(r"\\", r"\\[4pt]") if "pmatrix" in text and r"\\" in text else None


def in_thousands(answer: str) -> str | None:
    text = bare(answer)
    return rf"{text[:-3]} \text{{ thousand}}" if re.fullmatch(r"[1-9]\d*000", text) else None


def power_of_ten(answer: str) -> str | None:
    match = re.fullmatch(r"([1-9])(\d*[1-9])?(0{2,})", bare(answer))
    return f"{match[1]}.{match[2] or 0}e{len((match[2] or '') + match[3])}" if match else None


def choice_with_value(answer: str) -> str | None:
    letter = choice_letter(answer)
    return rf"\textbf{{{letter}}}\ 27" if letter and letter[1] <= "J" else None


def in_two_spellings(answer: str) -> str | None:
    decimal = as_decimal(answer)
    return rf"{bare(answer)} \text{{ or }} {decimal}" if decimal else None


def ratio_in_words(answer: str) -> str | None:
    match = re.fullmatch(r"(\d+)\s*:\s*(\d+)", bare(answer))
    return rf"{match[1]} \text{{ to }} {match[2]}" if match else None


def nothing(answer: str) -> bool:
    """Whether it says that there is no answer."""
    text = re.fullmatch(r"\\text\{(.*)\}|(.*)", bare(answer).strip())
    nothings = (r"\emptyset", r"\varnothing", r"\{\}", "empty", "none", "not exist", "does not exist", "no solution")
    return text is not None and (text[1] or text[2]).lower() in nothings


def instead_of_nothing(*forms: str) -> Change:
    """The forms in turn, by the answer's length."""
    return lambda answer: forms[len(answer) % len(forms)] if nothing(answer) else None


REWRITINGS: dict[str, Change] = {
    "itself": lambda answer: answer,
    "in dollar signs": wrapped("$", "$"),
    "in \\( \\)": wrapped(r"\(", r"\)"),
    "full stop": wrapped("", "."),
    "display style": wrapped(r"\displaystyle ", ""),
    "dfrac": replaced(r"\\[t]?frac", r"\\dfrac"),
    "frac": replaced(r"\\[dt]frac", r"\\frac"),
    "frac without braces": replaced(r"\\[dt]?frac\{(\d)\}\{(\d)\}(?!\d)", r"\\frac\1\2"),
    "braces for frac": replaced(r"\\[dt]?frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    "sqrt without braces": replaced(r"\\sqrt\{(\d)\}(?!\d)", r"\\sqrt\1"),
    "braces for powers": replaced(r"\^(\d)", r"^{\1}"),
    "braces for bases": replaced(r"(?<=\d)_(\d)$", r"_{\1}"),
    "bmatrix": replaced("pmatrix", "bmatrix"),
    "other percent sign": replaced(r"\\%", "%"),
    "percent in words": replaced(r"\\%$", r"\\text{ percent}"),
    "degrees in braces": replaced(r"\^\\circ", r"^{\\circ}"),
    "pi as a letter": replaced(r"\\pi(?![a-z])", "π"),
    "tight": tight,
    "loose": loose,
    "sized brackets": sized,
    "thousands": other_thousands,
    "thousands in braces": spaced_thousands,
    "unit dropped": dropped_unit,
    "unit added": with_unit,
    "currency added": with_currency,
    "degrees in words": in_words_degrees,
    "list reordered": reordered_list,
    "decimal to fraction": as_fraction,
    "fraction to decimal": as_decimal,
    "fraction with a slash": as_slash,
    "mixed number": as_mixed,
    "fraction not reduced": unreduced,
    "named": named,
    "sum commuted": commuted,
    "factor under the root": root_inside,
    "dots between factors": dotted,
    "interval as inequality": as_inequality,
    "choice in parentheses": choice_letter,
    "text without \\text": plain_text,
    "bold": bold,
    "sign inside the fraction": sign_inside,
    "fraction in front": factor_in_front,
    "root below": root_below,
    "terms reversed": terms_reversed,
    "root as a power": root_as_power,
    "list as a set": list_as_set,
    "list with and": list_with_and,
    "list of equations": list_of_equations,
    "several boxes": several_boxes,
    "plus before infinity": explicit_plus,
    "time in capitals": time_in_capitals,
    "lower case": lower_case,
    "plain words": in_plain_words,
    "value of a function": around_number("f(2) = ", ""),
    "one text": around_number(r"\text{", " hours}"),
    "about": around_number(r"\text{approximately } ", ""),
    "about, as a sign": around_number(r"\approx ", ""),
    "value behind a choice": around_number(r"\textbf{(C)}\ ", ""),
    "choice with a value": choice_with_value,
    "line break": wrapped("", r"\\"),
    "array in brackets": array_in_brackets,
    "high rows": high_rows,
    "in thousands": in_thousands,
    "power of ten": power_of_ten,
    "two spellings": in_two_spellings,
    "ratio in words": ratio_in_words,
    "nothing in words": instead_of_nothing(
        r"\text{no solution}", r"\text{does not exist}", r"\text{no real solutions}"
    ),
    "nothing in a word": instead_of_nothing(r"\text{DNE}", r"\text{none}", r"\text{the empty set}"),
    "nothing as a sign": instead_of_nothing(r"\emptyset", r"\varnothing", r"\{\}"),
    "value of a limit": around_number(r"\lim_{x \to 0} \frac{f(x)}{x} = ", ""),
    "value of a sum": around_number(r"\sum_{k=1}^{9} a_k = ", ""),
    "value of an integral": around_number(r"\int_0^1 (f(x) + 1) \, dx = ", ""),
}
