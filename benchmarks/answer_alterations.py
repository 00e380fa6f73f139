"""Ground truths that say something else: what `scorer_errors.py` changes and a scorer must notice."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from answer_rewritings import DECIMAL, bare, nothing, top_level_parts

Alteration = Callable[[str, random.Random], "str | None"]
"""An answer and a source of chance to its changed form; None where the change does not apply."""


def number_altered(answer: str, choice: random.Random) -> str | None:
    """One of its numbers plus one, or with another last digit."""
    numbers = list(re.finditer(r"\d+", answer))
    if not numbers:
        return None
    number = choice.choice(numbers)
    value = int(number[0])
    other = value + 1 if choice.random() < 0.5 else value - value % 10 + (value + choice.randint(1, 9)) % 10
    return answer[: number.start()] + str(other).rjust(len(number[0]), "0") + answer[number.end() :]


def sign_altered(answer: str, choice: random.Random) -> str | None:
    text = bare(answer)
    if re.fullmatch(r"0+(\.0*)?", text) or not re.match(r"-?\s*(\d|\\[dt]?frac|\\sqrt|\\pi)", text):
        return None
    if "," in text and not re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        return None
    if text.startswith("-"):
        return None if re.search(r"[+-]", text[1:]) else text[1:].strip()
    return None if re.search(r"[+-]|:|\\pm|or", text) else f"-{text}"


def last_place_altered(answer: str, choice: random.Random) -> str | None:
    """A decimal, or a whole number with eight places more, in its last place: closer than six digits."""
    text = bare(answer)
    if re.fullmatch(r"-?\d+", text):
        return f"{text}.0000000{choice.randint(1, 9)}"
    return f"{text}0000000{choice.randint(1, 9)}" if DECIMAL.fullmatch(text) else None


def tuple_reordered(answer: str, choice: random.Random) -> str | None:
    text = bare(answer).replace(r"\left", "").replace(r"\right", "")
    match = re.fullmatch(r"\(([^()\[\]]*)\)", text)
    parts = top_level_parts(match[1]) if match else []
    return f"({','.join(parts[::-1])})" if len(parts) > 1 and parts != parts[::-1] else None


def openness_altered(answer: str, choice: random.Random) -> str | None:
    text = bare(answer)
    places = [i for i, character in enumerate(text) if character in "()[]"]
    if len(top_level_parts(text.replace("[", "(").replace("]", ")").strip("() "))) != 2 or len(places) != 2:
        return None
    if re.search(r"\\sqrt\[|matrix", text) or places[0] not in (0, 5) or "," not in text[places[0] : places[1]]:
        return None
    place = choice.choice(places)
    return text[:place] + {"(": "[", "[": "(", ")": "]", "]": ")"}[text[place]] + text[place + 1 :]


def letter_altered(answer: str, choice: random.Random) -> str | None:
    match = re.fullmatch(r"(\\text\{\(?|)([A-Z])(\)?\}|)", bare(answer))
    return f"{match[1]}{chr((ord(match[2]) - 64) % 26 + 65)}{match[3]}" if match else None


def word_altered(answer: str, choice: random.Random) -> str | None:
    match = re.fullmatch(r"(\\(?:text|mbox)\{)([A-Za-z]{2,})(\})", bare(answer))
    return f"{match[1]}{match[2]}x{match[3]}" if match else None


def variable_altered(answer: str, choice: random.Random) -> str | None:
    text = bare(answer)
    letters = list(re.finditer(r"(?<![\\a-zA-Z])[a-df-hj-z](?![a-zA-Z(])", text))
    if not letters or re.search(r"=|text|or|and", text):
        return None
    letter = choice.choice(letters)
    return text[: letter.start()] + ("z" if letter[0] != "z" else "w") + text[letter.end() :]


def approximated(answer: str, choice: random.Random) -> str | None:
    """A root as a decimal of four places, cut off."""
    match = re.fullmatch(r"\\sqrt\{(\d+)\}", bare(answer))
    return f"{int(match[1]) ** 0.5:.4f}" if match and int(int(match[1]) ** 0.5) ** 2 != int(match[1]) else None


def around_large_number(*forms: str) -> Alteration:
    """One of the forms around a whole number beyond 1, which none of them leaves as it is."""

    def change(answer: str, choice: random.Random) -> str | None:
        text = bare(answer)
        return choice.choice(forms).format(text, int(text) + 1) if re.fullmatch(r"[2-9]|[1-9]\d+", text) else None

    return change


def something_for_nothing(answer: str, choice: random.Random) -> str | None:
    """Something where there is nothing."""
    return choice.choice(("0", r"\{0\}", r"\{\emptyset\}", r"\infty", r"\text{no}")) if nothing(answer) else None


ALTERATIONS: dict[str, Alteration] = {
    "one number": number_altered,
    "one number, again": number_altered,
    "sign": sign_altered,
    "last place": last_place_altered,
    "order of a tuple": tuple_reordered,
    "open or closed": openness_altered,
    "choice letter": letter_altered,
    "word": word_altered,
    "variable": variable_altered,
    "root cut off": approximated,
    "bound": around_large_number(r"\geq {0}", r"\leq {0}", "< {0}", "> {0}", r"\neq {0}", r"x \in {0}"),
    "scale word": around_large_number(*(rf"{{0}} \text{{{{ {word}}}}}" for word in ("dozen", "thousand", "million"))),
    "operation in words": around_large_number(
        "{0} squared", r"{0} \text{{ hundredths}}", "{0} halves", r"{0} \text{{ divided by 2}}", "{0} cubed"
    ),
    "equation": around_large_number("2x = {0}", "{1} = {0}", "x^2 = {0}", "f(2) = {1}", "2f(2) = {0}"),
    "something for nothing": something_for_nothing,
    "nothing for something": around_large_number(r"\emptyset", r"\text{{none}}", "DNE", r"\text{{no solution}}"),
    "operation": around_large_number(
        r"\sqrt{{x}} = {0}",
        r"\lim_{{x \to 0}} f(x) = {1}",
        r"\sum_{{k=1}}^{{9}} a_k + x = {0}",
        r"\int_0^1 f(x) \, dx = {1}",
    ),
    "value behind a choice": around_large_number(r"\textbf{{(C)}}\ {1}", "C: {1}", r"\text{{(C) {1}}}"),
}
