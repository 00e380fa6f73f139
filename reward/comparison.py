"""Whether two answers are the same, by rules that treat ground truth and answer alike."""

from __future__ import annotations

import re

from fpa_verl.reward.answers import (
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
from fpa_verl.reward.latex import tight
from fpa_verl.reward.relations import POINTS, Algebra, same_inequalities, same_relation
from fpa_verl.reward.units import agree
from fpa_verl.reward.values import UnsettledError, compare, evaluate
from fpa_verl.reward.wording import are_variables, word_letters

_UNORDERED = (LIST, UNION, "{}")
_INFINITY = r"\infty"
# A product of letters is no word: neither c a t nor \\cos(t).
_FORMULA = re.compile(r"[\s^_()+*/=-]|\\(?!text)")
_LETTERS = re.compile("[a-zA-Z ]+")


def same(a: Answer, b: Answer, algebra: Algebra | None) -> bool:
    """Whether two answers are the same.

    Raises:
        UnsettledError: it needs algebra and `algebra` is None.
    """
    if a == b:
        return True
    if isinstance(a, Expression) and isinstance(b, Expression):
        return _same_expression(a, b, algebra)
    if isinstance(a, Choice) or isinstance(b, Choice):
        return _same_choice(a, b, algebra)
    if (verdict := same_inequalities(a, b, algebra)) is not None:
        return verdict
    if isinstance(a, Group) or isinstance(b, Group):
        return _same_group(a, b, algebra)
    if isinstance(a, Words) or isinstance(b, Words):
        return _same_words(a, b)
    if isinstance(a, Relation) or isinstance(b, Relation):
        return same_relation(a, b, algebra)
    if isinstance(a, Clock) and isinstance(b, Clock):
        return _same_time(a, b)
    if isinstance(a, (Clock, Ratio)) or isinstance(b, (Clock, Ratio)):
        return _same_ratio(a, b, algebra)
    return False


def _same_choice(a: Answer, b: Answer, algebra: Algebra | None) -> bool:
    """Whether choices are the same: by the letter where both sides have one, else by what it stands for."""
    choice, other = (a, b) if isinstance(a, Choice) else (b, a)
    assert isinstance(choice, Choice)
    if isinstance(other, Choice):
        return choice.letter == other.letter
    if isinstance(other, (Words, Expression)) and other.text == choice.letter:
        return True
    return choice.content is not None and same(choice.content, other, algebra)


def _same_expression(a: Expression, b: Expression, algebra: Algebra | None) -> bool:
    if a.unit is not None and b.unit is not None and not agree(a.unit, b.unit):
        return False
    if a.base is not None and b.base is not None and a.base != b.base:
        return False
    if a.base is not None or b.base is not None:
        return _digits(a.text) == _digits(b.text)
    if a.name is not None and b.name is not None and not _same_name(a.name, b.name):
        left, right = (Relation(x.name or "", "=", x.text) for x in (a, b))
        return same_relation(left, right, algebra)
    if a.is_percent == b.is_percent:
        return _equal(a.text, b.text, algebra)
    percent, plain = (a, b) if a.is_percent else (b, a)
    if plain.unit is not None:
        return False
    # 50% is both the answer 50 to "what per cent" and the number 0.5.
    return _equal(percent.text, plain.text, algebra) or _equal(rf"\frac{{{percent.text}}}{{100}}", plain.text, algebra)


def _digits(text: str) -> str:
    sign = "-" if text.startswith("-") else ""
    return sign + (text.replace(" ", "").lstrip("+-").lstrip("0") or "0")


def _same_name(a: str, b: str) -> bool:
    functions = ("y", "f(x)")
    return a == b or (a in functions and b in functions)


def _equal(a: str, b: str, algebra: Algebra | None) -> bool:
    first, second = tight(a), tight(b)
    if (_is_word(a) or _is_word(b)) and _LETTERS.fullmatch(a) and _LETTERS.fullmatch(b):
        return a.casefold() == b.casefold()
    if first == second:
        return True
    if first.removeprefix("-") == _INFINITY or second.removeprefix("-") == _INFINITY:
        return False
    try:
        for point in POINTS:
            x, y = evaluate(a, point), evaluate(b, point)
            if not compare(x, y):
                return False
        return True
    except UnsettledError:
        if algebra is None:
            raise
        return algebra.equal(a, b)


def _is_word(text: str) -> bool:
    """Letters side by side that may be a word: cat is not act, but xy is yx."""
    return re.fullmatch("[a-zA-Z]{2,}", text) is not None and not are_variables(text)


def _same_words(a: Answer, b: Answer) -> bool:
    texts = []
    for answer in (a, b):
        if not isinstance(answer, (Words, Expression)):
            return False
        if isinstance(answer, Expression) and _FORMULA.search(answer.text.strip()):
            return False
        text = answer.text.replace(" ", "")
        texts.append(text if len(text) == 1 else word_letters(text.replace(r"\text", "")))
    return texts[0] == texts[1]


def _same_time(a: Clock, b: Clock) -> bool:
    if a.half and b.half and a.half != b.half:
        return False
    if (a.minute, a.second) != (b.minute, b.second):
        return False
    return a.hour == b.hour or _on_24_hours(a) == _on_24_hours(b)


def _on_24_hours(time: Clock) -> int:
    return time.hour % 12 + 12 * (time.half == "pm") if time.half else time.hour


def _same_ratio(a: Answer, b: Answer, algebra: Algebra | None) -> bool:
    """Ratios term by term; a ratio of two is also their quotient. 12:30 without a.m. or p.m. may be either."""
    left, right = _terms(a), _terms(b)
    if left is None or right is None:
        return False
    if len(left) == len(right):
        return all(same(x, y, algebra) for x, y in zip(left, right, strict=True))
    ratio, other = (left, right) if len(left) > len(right) else (right, left)
    if len(ratio) != 2 or not all(isinstance(x, Expression) for x in (*ratio, *other)):
        return False
    above, below = (x.text for x in ratio if isinstance(x, Expression))
    return same(Expression(rf"\frac{{{above}}}{{{below}}}"), other[0], algebra)


def _terms(answer: Answer) -> tuple[Answer, ...] | None:
    if isinstance(answer, Ratio):
        return answer.terms
    if isinstance(answer, Clock):
        return None if answer.half or answer.second else (Expression(str(answer.hour)), Expression(str(answer.minute)))
    return (answer,) if isinstance(answer, Expression) else None


def _same_group(a: Answer, b: Answer, algebra: Algebra | None) -> bool:
    if not (isinstance(a, Group) and isinstance(b, Group)):
        group, single = (a, b) if isinstance(a, Group) else (b, a)
        assert isinstance(group, Group)
        if isinstance(single, Expression) and r"\begin" in single.text:
            return _is_matrix(group, single.text, algebra)
        return group.kind in _UNORDERED and _is_one(group.items, single, algebra)
    if not _comparable_names(a, b):
        return False
    if a.kind in _UNORDERED and b.kind in _UNORDERED:
        # {1, 1, 2} is {1, 2}; a double root in a list counts twice.
        is_set = "{}" in (a.kind, b.kind)
        return _same_collection(a.items, b.items, is_set, algebra)
    return _ordered_alike(a, b) and all(same(x, y, algebra) for x, y in zip(a.items, b.items, strict=True))


def _is_matrix(group: Group, text: str, algebra: Algebra | None) -> bool:
    """Whether sums, products and multiples of matrices make a matrix, or a point written as a column or row."""
    points = {"()": (1, len(group.items)), VECTOR: (1, len(group.items)), MATRIX: (group.columns,)}
    if group.kind not in points or not all(isinstance(item, Expression) for item in group.items):
        return False
    if algebra is None:
        raise UnsettledError("matrices")
    entries = [item.text for item in group.items if isinstance(item, Expression)]
    for columns in points[group.kind]:
        rows = (" & ".join(entries[i : i + columns]) for i in range(0, len(entries), columns))
        if algebra.equal(r"\begin{pmatrix} " + r" \\ ".join(rows) + r" \end{pmatrix}", text):
            return True
    return False


def _is_one(items: tuple[Answer, ...], single: Answer, algebra: Algebra | None) -> bool:
    r"""Whether items are one answer: \{5\}, or \frac12 or 0.5; but neither 5, 5 nor x = 5, y = 5."""
    return (
        len(items) == len(set(items)) > 0
        and all(same(item, single, algebra) for item in items)
        and all(same(items[0], item, algebra) for item in items)
    )


def _comparable_names(a: Group, b: Group) -> bool:
    r"""Whether names agree: x > 3 is not y > 3, but both are (3, \infty)."""
    if a.name is None or b.name is None:
        return True
    return _same_name(a.name.replace(" ", ""), b.name.replace(" ", ""))


def _ordered_alike(a: Group, b: Group) -> bool:
    """Whether items are to be compared one by one: the same delimiters, or two ways to write a point."""
    if len(a.items) != len(b.items):
        return False
    if a.kind == b.kind:
        return a.columns == b.columns
    points = {"()", VECTOR}
    if MATRIX in (a.kind, b.kind):
        matrix, other = (a, b) if a.kind == MATRIX else (b, a)
        return other.kind in points and matrix.columns in (1, len(matrix.items))
    # A bare list may be a point whose parentheses were left out.
    return {a.kind, b.kind} <= {*points, LIST}


def _same_collection(a: tuple[Answer, ...], b: tuple[Answer, ...], is_set: bool, algebra: Algebra | None) -> bool:
    if not is_set and len(a) != len(b):
        return False
    left = list(b)
    for item in a:
        index = next((i for i, other in enumerate(left) if same(item, other, algebra)), None)
        if index is None:
            if not is_set or not any(same(item, other, algebra) for other in b):
                return False
            continue
        left.pop(index)
    return not left or (is_set and all(any(same(item, other, algebra) for item in a) for other in left))
