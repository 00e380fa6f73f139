"""Reading answers: from text to what `answers` says an answer is."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from fpa_verl.reward.answers import (
    CHAIN,
    LIST,
    MATRIX,
    UNION,
    VECTOR,
    Answer,
    Choice,
    Clock,
    Expression,
    Group,
    Ratio,
    Relation,
    Words,
)
from fpa_verl.reward.brackets import CLOSE, OPEN, depths, pairs_up, split
from fpa_verl.reward.latex import UnreadableError, canonical
from fpa_verl.reward.marks import spellings
from fpa_verl.reward.names import RELATION, is_name, is_operation, is_variable
from fpa_verl.reward.number_words import whole_number
from fpa_verl.reward.units import is_harmless, modulus_name, name_of, split_percent, split_unit
from fpa_verl.reward.values import UnsettledError, compare, evaluate
from fpa_verl.reward.wording import in_symbols, word_letters

MAX_ITEMS = 200
MAX_UNITS = 2
MAX_NUMBER_WORDS = 20
# More of them outside of \text are a sentence, and no answer.
MAX_PLAIN_WORDS = 4

_REALS = Group("()", (Expression(r"-\infty"), Expression(r"\infty")))
_ALL_REALS = re.compile(r"(?:all|any|the)(?: of)?(?: the)? reals?(?: numbers?)?(?: [a-z])?", re.IGNORECASE)
_NOTHING_THERE = Group("{}", ())
_NOTHING = re.compile(
    r"none|dne|(?:the )?(?:empty|empty set|null set)|not exist|(?:[a-z]+ ){0,3}(?:does|do)(?: not|n't) exist"
    r"|(?:there (?:is|are) )?no (?:such(?: [a-z]+){1,4}|(?:real )?(?:solutions?|roots?|values?)(?: exists?)?)",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"(?:an?|the) (?=[a-z]{3})")

# Three of four ground truths, and read the same the long way.
_PLAIN_NUMBER = re.compile(r"-?\d{1,300}(?:\.\d{1,300})?")
# As a program prints a list of one text: ['34'].
_LIST_OF_ONE = re.compile(r"\[(['\"])([^'\"]+)\1\]")
_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_NOT_PROSE = re.compile(r"\\(?:text|begin|end)\{[^{}]*\}")
# Neither letters nor units.
_NUMBER = re.compile(r"(?:[-+\d./^!(){} ]|\\(?:frac|sqrt|pi|cdot)(?![a-zA-Z]))+")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(?:([ap])\.?\s?m\.?)?", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<![\d.,])([1-9]\d{0,2}(?:,\d{3})+)(?![\d,])")
_SPACED_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?: \d{3})+(?:\.\d+)?")
_BASE = re.compile(r"(-?)\(?([0-9A-Za-z]*\.?[0-9A-Za-z]+)\)?_\{(?:\\text\{)?(\w+)\}?\}")
# \text{The answer is } 5
_LEAD = re.compile(r"\\text\{[^{}]*(?:\bis|\bare|\bequals|:)\s*\}\s*(\S.*)")
_REMAINDER = re.compile(r"(.*\S)\s*\\bmod\{((?:[^{}]|\{[^{}]*\})+)\}")
_WITHOUT = re.compile(r"\\mathbb\{R\}\s*(?:\\setminus|\\backslash|-)\s*\\\{([^{},]+)\\\}")
_PLAIN_MIXED = re.compile(r"(?<![\d.}])(\d+) (\d+)\s?/\s?(\d+)(?!\d)")
_CHOICE = re.compile(r"\(?([A-J])\)?\s*[.:)]\s*(\S.*)", re.DOTALL)
_LABEL = re.compile(r"(?:option|choice|answer)\s+(?=\(?[A-J](?![a-zA-Z]))", re.IGNORECASE)
# A segment, an angle, a triangle.
_FIGURE = re.compile(r"\\(?:overline|overrightarrow|vec|widehat|triangle|angle)\s*\{?\s*([A-Z]{2,4})\s*\}?")
_PLAIN_AND = re.compile(
    r"(?<=[\d}\s)])\s*,?\s+(?:and|or)\s+(?=[-\d\\(a-zA-Z$])|(?<=\))\s*(?:and|or)\s*(?=\()", re.IGNORECASE
)
_ENVIRONMENT = re.compile(r"\\begin\{([pbB]?matrix|smallmatrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\}", re.DOTALL)
_MIRRORED = {">": "<", r"\geq": r"\leq"}
_PROSE = re.compile(r"[^\W\d_](?:[^\W_]|[ .,;:'!?&/()-])*")
_FIGURES = re.compile(
    r"\b(?:line|ray|segment|point|plane|curve|circle|sphere|arc|angle|triangle|square|rectangle|polygon|ellipse|parabola"
    r"|hyperbola|cone|cube|solution|root|value|intersection|quarter)"
)
# Too short to be told from a product of variables by their length; three letters, the first a capital, can be.
_SHORT_WORDS = frozenset(("yes", "no", "odd", "red", "tie", "win", "any"))
_CAPITALISED = re.compile("[A-Z][a-z]{2}")
# Lower-case runs that latex2sympy or this scorer know, and that are therefore no prose.
_KNOWN_RUNS = re.compile(
    r"\\[a-zA-Z]+|(?:begin|end)\{[a-z]+\}|(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|exp|sqrt|gcd|lcm|max|min|mod"
)


def readings(answer: str) -> tuple[Answer, ...]:
    """The ways in which an answer can be read: one, or two where commas may group digits or part numbers.

    Raises:
        UnreadableError: it is empty or broken.
    """
    if _PLAIN_NUMBER.fullmatch(answer):
        return (Expression(answer),)
    if one := _LIST_OF_ONE.fullmatch(answer.strip()):
        answer = one[2]
    found = tuple(reading for spelling in spellings(answer) for reading in _readings(spelling))
    return tuple(dict.fromkeys(found))


def _readings(answer: str) -> tuple[Answer, ...]:
    text = in_symbols(canonical(answer))
    if text.startswith(OPEN) or not _THOUSANDS.search(text):
        return (_read(text),)
    as_number = _read(_THOUSANDS.sub(lambda match: match[1].replace(",", ""), text))
    # No list has an item 050.
    return (as_number,) if ",0" in text else (as_number, _read(text))


@lru_cache(maxsize=4096)
def cached_readings(answer: str) -> tuple[Answer, ...]:
    try:
        return readings(answer)
    except RecursionError as error:
        raise UnreadableError("nested too deep") from error


def _read(text: str) -> Answer:
    text = text.strip()
    while text.startswith("{") and text.endswith("}") and pairs_up(text):
        text = text[1:-1].strip()
    if not text:
        raise UnreadableError("nothing there")
    if found := _words(text):
        return found
    text = _PLAIN_AND.sub(", ", text)
    if found := _systems(text):
        return found
    parts = split(text, (",", ";"))
    if len(parts) > 1:
        return Group(LIST, _items(parts))
    if found := _relation(text):
        return found
    parts = split(text, (r"\cup",))
    if len(parts) > 1:
        return Group(UNION, _items(parts))
    if clock := _CLOCK.fullmatch(_TEXT.sub(r"\1", text)):
        hour, minute, second, half = clock.groups()
        return Clock(int(hour), int(minute), int(second or 0), f"{half.lower()}m" if half else "")
    parts = split(text, (":",))
    if len(parts) > 1:
        return Ratio(_items(parts))
    return _group(text) or _plus_minus(text) or _expression(text)


def _systems(text: str) -> Group | None:
    """P = 5, q = 2; p = 7, q = 2 as a list of points: the same names, several of them, between semicolons."""
    systems = split(text, (";",))
    if len(systems) < 2 or "," not in text or "=" not in text:
        return None
    read = [Group(LIST, _items(split(system, (",",)))) for system in systems]
    names = {tuple(item.name for item in one.items if isinstance(item, Expression) and item.name) for one in read}
    sizes = {len(one.items) for one in read}
    return Group(LIST, tuple(read)) if len(names) == 1 and sizes == {len(names.pop())} and sizes != {1} else None


def _items(parts: list[str]) -> tuple[Answer, ...]:
    if len(parts) > MAX_ITEMS:
        raise UnreadableError(f"more than {MAX_ITEMS} items")
    items: list[Answer] = []
    for part in parts:
        if part.strip():
            item = _read(part)
            items += item.items if isinstance(item, Group) and item.kind == LIST else [item]
    if not items:
        raise UnreadableError("no items")
    return tuple(items)


def _words(text: str) -> Answer | None:
    """Text in words, where the whole answer is text."""
    if figure := _FIGURE.fullmatch(text):
        return Words(figure[1].lower())
    bare = _LABEL.sub("", _TEXT.sub(r" \1 ", text).strip(), count=1)
    if choice := _CHOICE.fullmatch(text) or _CHOICE.fullmatch(bare):
        return _choice(*choice.groups())
    if re.fullmatch(r"\(\s*[A-Z]\s*\)", bare):
        return Words(bare.strip("() "))
    if _ALL_REALS.fullmatch(bare):
        return _REALS
    if _NOTHING.fullmatch(" ".join(bare.split()).rstrip(".")):
        return _NOTHING_THERE
    if _CLOCK.fullmatch(bare) or not _PROSE.fullmatch(bare) or "," in bare:
        return None
    without_article = _ARTICLE.sub("", bare.lower())
    if number := _number_in_words(without_article):
        return number
    letters = word_letters(without_article)
    if len(bare) == 1 and bare != text:
        return Words(bare)
    if text.startswith(r"\text{") and text.endswith("}") and text.count(r"\text{") == 1:
        return Words(letters)
    if re.fullmatch(r"[A-Za-z][A-Za-z.'-]*(?: [A-Za-z.'-]+)*", bare):
        # Outside of \text, short runs of letters may be products of variables; capitals are names.
        runs = re.findall(r"[A-Za-z]+", bare)
        if len(runs) > MAX_PLAIN_WORDS:
            raise UnreadableError("a sentence")
        if any(map(_is_word, runs)):
            return Words(letters)
    # A date: October 30.
    return Words(letters) if re.fullmatch(r"[A-Z][a-z]{2,} \d+", bare) else None


def _number_in_words(text: str) -> Expression | None:
    """Twelve; five apples, but two circles may be what was asked for, and are not the number 2."""
    tokens = text.split()
    for count in range(min(len(tokens), MAX_NUMBER_WORDS), 0, -1):
        number, rest = whole_number(" ".join(tokens[:count])), " ".join(tokens[count:])
        if number and not rest:
            return Expression(number)
        if number and is_harmless(rest, number) and not _FIGURES.search(rest):
            return Expression(number, unit=name_of(rest) or word_letters(rest))
    return None


def _is_word(run: str) -> bool:
    return (
        len(run) > 3
        or (len(run) > 1 and run.isupper())
        or run.lower() in _SHORT_WORDS
        or _CAPITALISED.fullmatch(run) is not None
    )


def _choice(letter: str, content: str) -> Choice:
    try:
        return Choice(letter, _read(content))
    except UnreadableError:
        return Choice(letter, None)


def _relation(text: str) -> Answer | None:
    found = [(position, token) for position, token, depth in depths(text) if depth == 0 and RELATION.fullmatch(token)]
    if not found:
        return None
    signs = [token for _, token in found]
    edges = [0, *(position + len(token) for position, token in found)]
    parts = [text[a:b].strip() for a, b in zip(edges, [p for p, _ in found] + [len(text)], strict=True)]
    if not all(parts[1:]):
        raise UnreadableError("a relation lacks a side")
    if signs[0] == r"\approx":
        # x \approx 3 says 3; 2\sqrt{3} \approx 3.46 says 2\sqrt{3}.
        return _read(parts[1] if is_name(parts[0]) else parts[0])
    if r"\approx" in signs:
        return _relation(text[: found[signs.index(r"\approx")][0]])
    if not parts[0]:
        return _without_left_side(parts[1:], signs)
    if signs == [r"\in"] and is_name(parts[0]):
        return _membership(parts[0], parts[1])
    if set(signs) <= {"=", r"\equiv"}:
        # A residue, and not a remainder.
        return _equation([*parts[:-1], parts[-1].replace(r"\bmod", r"\pmod")] if r"\equiv" in signs else parts)
    return _inequality(parts, signs)


def _without_left_side(parts: list[str], signs: list[str]) -> Answer:
    r"""Read "= 5" as 5, "< 5" as the interval, and x \in A with its x left out as A."""
    if signs[0] in ("=", r"\equiv"):
        return _read(parts[0]) if len(parts) == 1 else _equation(parts)
    if len(parts) > 1:
        raise UnreadableError("a relation lacks a side")
    if signs == [r"\in"]:
        return _membership(None, parts[0])
    found = _inequality(["x", *parts], signs)
    return replace(found, name=None) if isinstance(found, Group) else found


def _membership(name: str | None, text: str) -> Answer:
    member = _read(text)
    if isinstance(member, Expression) and re.search(r"\d", member.text):
        raise UnreadableError("a number has no elements")
    return replace(member, name=name) if isinstance(member, Group) else member


def _equation(parts: list[str]) -> Answer:
    is_value = is_operation(parts[0])
    if len(parts) == 2 and is_variable(parts[1]) and not is_value and not is_name(parts[0]):
        parts = parts[::-1]
    name = parts[0].replace(" ", "")
    is_named = is_name(name) and not is_value
    if len(parts) == 2 and not is_named and not is_value and _has_letters(parts):
        return Relation(parts[0], "=", parts[1])
    if any(_contradict(part, parts[-1]) for part in parts[:-1]):
        return Relation(parts[0], "=", parts[-1])
    value = _read(parts[-1])
    if isinstance(value, (Expression, Group)):
        # (x, y) = (1, 2) names a point; 2 + 3 = 5 names nothing.
        return replace(value, name=name if is_named else None)
    return value


def _has_letters(parts: list[str]) -> bool:
    return re.search(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", "".join(parts))) is not None


def _contradict(a: str, b: str) -> bool:
    """Whether both are numbers and differ; decimals may have been rounded."""
    if not all(_NUMBER.fullmatch(text) for text in (a, b)) or "." in a + b:
        return False
    try:
        return not compare(evaluate(a), evaluate(b))
    except UnsettledError:
        return False


def _inequality(parts: list[str], signs: list[str]) -> Answer:
    """An interval where a name is compared with one or two bounds; else what is written, the smaller side first."""
    if set(signs) <= set(_MIRRORED):
        parts, signs = parts[::-1], [_MIRRORED[sign] for sign in reversed(signs)]
    if signs == [r"\neq"] and any(map(is_variable, parts)):
        name, number = parts if is_variable(parts[0]) else parts[::-1]
        return _all_but(number, name)
    if set(signs) <= {"<", r"\leq"} and (interval := _interval(parts, signs)):
        return interval
    links = tuple(map(Relation, parts, signs, parts[1:]))
    return links[0] if len(links) == 1 else Group(CHAIN, links)


def _interval(parts: list[str], signs: list[str]) -> Group | None:
    """The interval of a < x, x < b or a < x < b."""
    if len(parts) == 2 and is_variable(parts[0]):
        parts, signs = [r"-\infty", *parts], ["<", *signs]
    elif len(parts) == 2 and is_variable(parts[1]):
        parts, signs = [*parts, r"\infty"], [*signs, "<"]
    if len(parts) != 3 or not is_variable(parts[1]):
        return None
    kind = ("(" if signs[0] == "<" else "[") + (")" if signs[1] == "<" else "]")
    return Group(kind, (_read(parts[0]), _read(parts[2])), name=parts[1])


def _all_but(number: str, name: str | None) -> Group:
    low, gap, high = Expression(r"-\infty"), _read(number), Expression(r"\infty")
    return Group(UNION, (Group("()", (low, gap)), Group("()", (gap, high))), name=name)


def _group(text: str) -> Answer | None:
    if text == r"\emptyset":
        return _NOTHING_THERE
    if text == r"\mathbb{R}":
        return _REALS
    if without := _WITHOUT.fullmatch(text):
        return _all_but(without[1], None)
    if environment := _ENVIRONMENT.fullmatch(text):
        # Two of them are a product, left to the algebra.
        return _matrix(environment[2]) if r"\begin" not in environment[2] else None
    tokens = [token for _, token, _ in depths(text)]
    if tokens[0] not in OPEN or tokens[-1] not in CLOSE or not pairs_up(text):
        return None
    return _bracketed(tokens[0] + tokens[-1], text[len(tokens[0]) : -len(tokens[-1])])


def _matrix(content: str) -> Group:
    rows = [row.split("&") for row in content.strip().removesuffix(r"\\").split(r"\\")]
    if len({len(row) for row in rows}) > 1:
        raise UnreadableError("rows of different length")
    return Group(MATRIX, tuple(_read(entry) for row in rows for entry in row), columns=len(rows[0]))


def _bracketed(brackets: str, inner: str) -> Answer | None:
    """A set, tuple, vector or interval, or what stands in parentheses alone; None for one thing in other brackets."""
    if brackets == r"\{\}":
        description = re.fullmatch(r"([^|:]*)[|:](.*)", inner, re.DOTALL)
        return _described_set(*description.groups()) if description else Group("{}", _items(split(inner, (",", ";"))))
    parts = split(inner, (",", ";"))
    if len(parts) == 1:
        is_matrix = _ENVIRONMENT.fullmatch(inner.strip()) is not None
        return _read(inner) if brackets == "()" or is_matrix else None
    if not all(part.strip() for part in parts):
        raise UnreadableError("an empty place")
    return Group(VECTOR if brackets == r"\langle\rangle" else brackets, tuple(map(_read, parts)))


def _described_set(variable: str, condition: str) -> Answer:
    """{x | a < x < b} is an interval, {x | x = 5} the set of 5; others are not understood."""
    found = _read(condition)
    if isinstance(found, (Group, Expression)) and found.name and found.name == _set_name(variable):
        return found if isinstance(found, Group) else Group("{}", (replace(found, name=None),))
    raise UnreadableError("a set by description")


def _set_name(variable: str) -> str:
    return split(variable, (r"\in", ":"))[0].strip()


def _plus_minus(text: str) -> Answer | None:
    """Both values of an expression with one plus-minus sign."""
    places = [position for position, token, depth in depths(text) if token == r"\pm"]
    if len(places) != 1:
        return None
    before, after = text[: places[0]], text[places[0] + 3 :]
    return Group(LIST, (_read(f"{before}+{after}"), _read(f"{before}-{after}")))


def _remainder(text: str) -> Expression | None:
    r"""10 \bmod 3 as 1, which is then also 1 \pmod 3."""
    found = _REMAINDER.fullmatch(text)
    if found is None:
        return None
    body, modulus = found.groups()
    if any(depth == 0 and position and token in ("+", "-") for position, token, depth in depths(body)):
        raise UnreadableError("7 + 5 mod 3 has two readings")
    try:
        value, by = evaluate(body), evaluate(modulus)
    except UnsettledError:
        value = by = Fraction(0)
    if isinstance(value, Fraction) and isinstance(by, Fraction) and value.denominator == by.denominator == 1 <= by:
        return Expression(str(value % by), unit=modulus_name(modulus))
    return Expression(rf"({body}) \mod ({modulus})")


def _expression(text: str) -> Answer:
    if remainder := _remainder(text):
        return remainder
    if lead := _LEAD.fullmatch(text):
        return _read(lead[1])
    text = _PLAIN_MIXED.sub(r"\1\\frac{\2}{\3}", text)
    if _SPACED_THOUSANDS.fullmatch(text):
        text = text.replace(" ", "")
    body, is_percent = split_percent(text)
    if not is_percent:
        bare, unit = _without_units(text)
        if bare != text:
            inner = _read(bare)
            return replace(inner, unit=unit) if isinstance(inner, Expression) else inner
    if base := _BASE.fullmatch(body.replace(" ", "")):
        sign, digits, written = base.groups()
        number = whole_number(written) or written
        if number.isdigit() and _are_digits(digits, int(number)):
            return Expression(sign + digits, base=str(int(number)))
    _refuse_prose(body)
    return Expression(body.strip(), is_percent=is_percent)


def _without_units(text: str) -> tuple[str, str | None]:
    r"""Body and unit; of two, as in \$5 per hour, neither is compared."""
    units: list[str | None] = []
    for _ in range(MAX_UNITS + 1):
        text, unit, had_unit = split_unit(text)
        if not had_unit:
            return text, units[0] if len(units) == 1 else None
        units.append(unit)
    raise UnreadableError(f"more than {MAX_UNITS} units")


def _are_digits(text: str, base: int) -> bool:
    """Whether `text` is a numeral of this base, and not a coefficient before an indexed letter."""
    values = ["0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".find(digit) for digit in text if digit != "."]
    return (
        2 <= base <= 36 and text[-1:] != "." and 0 <= min(values) <= max(values) < base and any(map(str.isdigit, text))
    )


def _refuse_prose(text: str) -> None:
    without = _KNOWN_RUNS.sub(" ", _NOT_PROSE.sub(" ", text))
    if re.search(r"[a-z]{5,}", without):
        raise UnreadableError("words among symbols")
