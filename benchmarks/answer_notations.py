r"""Ground truths in the notations that other graders' suites ask about, and their neighbours that say something else.

Powers and functions as programs write them, Unicode, words and numerals of other scripts, double factorials, floors,
remainders, inequalities and matrices times a number, answers in several boxes. `scorer_errors.py` adds them to the
changes of answer_rewritings.py and answer_alterations.py.
"""

# Look-alikes are what this is about.
# ruff: noqa: RUF001

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from answer_alterations import ALTERATIONS, Alteration, around_large_number
from answer_rewritings import REWRITINGS, Change, bare, numbers_of_list, replaced, top_level_parts

RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
FULL_WIDTH = str.maketrans("0123456789(),.:;%-+=", "０１２３４５６７８９（），．：；％－＋＝")
VULGAR = {"1/2": "½", "1/3": "⅓", "2/3": "⅔", "1/4": "¼", "3/4": "¾", "1/5": "⅕", "1/6": "⅙", "5/6": "⅚", "1/8": "⅛"}
ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
HAN = "零一二三四五六七八九"
DOUBLE_FACTORIALS = {"15": "5!!", "48": "6!!", "105": "7!!", "384": "8!!", "945": "9!!"}


# Right


def without_text(change: Change) -> Change:
    """The change, of formulas alone."""
    return lambda answer: None if re.search(r"text|mbox|\$", bare(answer)) else change(bare(answer))


def raised(answer: str) -> str | None:
    text = re.sub(r"\^\{(-?\d+)\}|\^(\d)", lambda power: (power[1] or power[2]).translate(RAISED), answer)
    return text if text != answer else None


def lowered(answer: str) -> str | None:
    text = re.sub(
        r"(?<=[\da-zA-Z])_\{(\d+)\}|(?<=[\da-zA-Z])_(\d)", lambda i: (i[1] or i[2]).translate(LOWERED), answer
    )
    return text if text != answer else None


def full_width(answer: str) -> str | None:
    """Of numbers, and lists and tuples of them."""
    return answer.translate(FULL_WIDTH) if re.fullmatch(r"[-\d(), .%:]+", answer) else None


def vulgar_fraction(answer: str) -> str | None:
    match = re.fullmatch(r"(-?)(\d*)\\[dt]?frac\{?(\d)\}?\{?(\d)\}?", answer)
    sign = VULGAR.get(f"{match[3]}/{match[4]}") if match else None
    return f"{match[1]}{match[2]}{sign}" if match and sign else None


def plain_functions(answer: str) -> str | None:
    r"""\sin x as sin(x), where the argument is one letter or number."""
    text = re.sub(r"\\(sin|cos|tan|ln|log)(_\{?\d+\}?)?\s*\(?([a-z]|\d+)\)?(?![\w^({\\])", r"\1\2(\3)", answer)
    return text if text != answer else None


def plain_roots(answer: str) -> str | None:
    text = re.sub(r"\\sqrt\{(\d+|[a-z])\}", r" sqrt(\1)", answer)
    return text if text != answer else None


def in_english(answer: str) -> str | None:
    if not re.fullmatch(r"\d{1,3}", answer):
        return None
    hundreds, rest = divmod(int(answer), 100)
    words = [f"{ONES[hundreds]} hundred"] if hundreds else []
    if rest or not hundreds:
        one = ONES[rest] if rest < 20 else "-".join([TENS[rest // 10 - 2], *([ONES[rest % 10]] if rest % 10 else [])])
        words.append(one)
    return rf"\text{{{' and '.join(words)}}}"


def in_han(answer: str) -> str | None:
    if not re.fullmatch(r"[1-9]\d?", answer):
        return None
    tens, ones = divmod(int(answer), 10)
    return ("" if tens < 2 else HAN[tens]) + ("十" if tens else "") + (HAN[ones] if ones else "")


def in_boxes(*between: str) -> Change:
    """Items of a list of numbers in boxes of their own."""

    def change(answer: str) -> str | None:
        parts = numbers_of_list(answer)
        return between[len(answer) % len(between)].join(parts) if parts else None

    return change


def scaled_inequality(answer: str, factor: int = 2, *, opened: bool = False) -> str | None:
    """A half-open interval between whole numbers as 2a < 2x <= 2b; for a negative factor from the other end."""
    match = re.fullmatch(r"([(\[])(-?\d+),\s*(-?\d+)([)\]])", answer.replace(r"\left", "").replace(r"\right", ""))
    if not match or match[1] + match[4] not in ("(]", "[)"):
        return None
    closed = (match[1] == "[", match[4] == "]")
    signs = ["\\leq" if one != opened else "<" for one in closed]
    low, high = int(match[2]) * factor, int(match[3]) * factor
    if factor < 0:
        low, high, signs = high, low, signs[::-1]
    return f"{low} {signs[0]} {factor}x {signs[1]} {high}"


def entries_of(answer: str) -> list[list[int]] | None:
    """Rows of a matrix of whole numbers."""
    match = re.fullmatch(r"\\begin\{pmatrix\}([-\d&\\\s]+)\\end\{pmatrix\}", answer)
    if not match:
        return None
    rows = [row.split("&") for row in match[1].strip().removesuffix(r"\\").split(r"\\")]
    return [[int(entry.replace(" ", "")) for entry in row] for row in rows]


def times_matrix(answer: str, before: str = "-", factor: int = -1) -> str | None:
    """A number before a matrix, each of whose entries is so many times that of the answer."""
    rows = entries_of(answer)
    if rows is None or not any(map(any, rows)):
        return None
    inside = r" \\ ".join(" & ".join(str(entry * factor) for entry in row) for row in rows)
    return rf"{before}\begin{{pmatrix}} {inside} \end{{pmatrix}}"


def around_whole(form: str, last: str = r"\d") -> Change:
    """A form of a whole number n beyond 1: {n}, {more} for n + 1, {twice} for a number that leaves n behind n + 1.

    What needs a child process takes of the numbers those of some last digits.
    """

    def change(answer: str) -> str | None:
        if not re.fullmatch(rf"(?:[2-9]|[1-9]\d{{1,8}})(?<={last})", answer):
            return None
        n = int(answer)
        return form.format(n=n, more=n + 1, less=n - 1, twice=2 * (n + 1) + n)

    return change


NOTATIONS: dict[str, Change] = {
    "power with stars": without_text(replaced(r"\^\{(-?\d+)\}|\^(\d)", r"**\1\2")),
    "power without braces": without_text(replaced(r"\^\{(-?\d+)\}(?!\d)", r"^\1")),
    "superscripts": without_text(raised),
    "subscripts": without_text(lowered),
    "full width": without_text(full_width),
    "vulgar fraction": without_text(vulgar_fraction),
    "plain functions": without_text(plain_functions),
    "plain roots": without_text(plain_roots),
    "plain infinity": without_text(replaced(r"\\infty", "inf")),
    "Greek letters": without_text(replaced(r"\\theta(?![a-zA-Z])", "θ")),
    "choose": without_text(replaced(r"\\[dt]?binom\{([^{}]*)\}\{([^{}]*)\}", r"{\1 \\choose \2}")),
    "double factorial": lambda answer: DOUBLE_FACTORIALS.get(bare(answer)),
    "floor": without_text(around_whole(r"\lfloor {n}.5 \rfloor", "7")),
    "floor as an operator": without_text(around_whole(r"\operatorname{{floor}}({n}.5)", "3")),
    "ceiling in plain text": without_text(around_whole("ceil({less}.5)", "1")),
    "absolute value in plain text": without_text(around_whole("abs(-{n})", "9")),
    "remainder": without_text(around_whole(r"{twice} \bmod {more}")),
    "number words": without_text(in_english),
    "Han numerals": without_text(in_han),
    "word of another script": without_text(around_whole(r"{n}\text{{ 元}}")),
    "word of another script, plain": without_text(around_whole("{n}个")),
    "list with a word of another script": without_text(in_boxes(" 或 ", r" \text{ 和 } ", "、")),
    "boxes in parts": without_text(in_boxes(r"}\qquad\boxed{", r"} \quad \text{and} \quad \boxed{", r"},\ \boxed{")),
    "list of one text": without_text(around_whole("['{n}']")),
    "inequality times a number": without_text(scaled_inequality),
    "inequality times a negative number": without_text(lambda answer: scaled_inequality(answer, -3)),
    "minus a matrix": without_text(times_matrix),
    "noun behind it": without_text(around_whole("{n} apples")),
    "product with a binomial": without_text(around_whole(r"1\binom{{{n}}}{{1}}", "7")),
    "the same box twice": without_text(around_whole(r"{n}}}$$ $$\boxed{{{n}")),
    "half of a matrix": without_text(lambda answer: times_matrix(answer, r"\frac12 ", 2)),
}


# Wrong


def other_power(answer: str, choice: random.Random) -> str | None:
    """An exponent with a digit more, without braces; of 1 and of 0 any is the same."""
    text = bare(answer)
    changed = re.sub(r"(?<=[a-df-hj-z])\^\{?(\d)\}?(?![\d}])", lambda power: f"^{power[1]}{choice.randint(0, 9)}", text)
    return changed if changed != text and not re.search(r"text|\$", text) else None


def other_boxes(answer: str, choice: random.Random) -> str | None:
    parts = numbers_of_list(answer)
    if not parts or not all(re.fullmatch(r"-?\d+", part) for part in parts):
        return None
    place = choice.randrange(len(parts))
    parts[place] = str(int(parts[place]) + 100)
    return r"}\qquad\boxed{".join(parts)


def other_inequality(answer: str, choice: random.Random) -> str | None:
    """Both bounds open where they were closed, or the other way round; or the numbers of another interval."""
    text = bare(answer)
    if choice.random() < 0.5:
        return scaled_inequality(text, 2, opened=True)
    scaled = scaled_inequality(text)
    return scaled.replace("2x", "3x") if scaled and re.search(r"[1-9]", text) else None


def other_matrix(answer: str, choice: random.Random) -> str | None:
    return times_matrix(bare(answer), *choice.choice((("-", 1), ("2", 1), (r"\frac12", 1), ("3", -3))))


def seldom(change: Alteration) -> Alteration:
    """One in ten of what needs a child process."""
    return lambda answer, choice: change(answer, choice) if choice.random() < 0.1 else None


def letters_swapped(answer: str, choice: random.Random) -> str | None:
    """Of words: two letters are a product."""
    match = re.fullmatch(r"(?:\\text\{)?([A-Za-z]{3,})\}?", bare(answer))
    if not match or match[1].lower() in ("dne", "none"):
        return None
    swapped = match[1][1:] + match[1][0]
    return swapped if swapped.lower() != match[1].lower() else None


def sum_as_product(answer: str, choice: random.Random) -> str | None:
    """Two factors whose sum is the answer."""
    text = bare(answer)
    return rf"{int(text) - 3}\binom{{3}}{{1}}" if re.fullmatch(r"\d{2,9}", text) else None


def tuple_of_bounds(answer: str, choice: random.Random) -> str | None:
    """A tuple with one number more, in full width."""
    text = bare(answer)
    parts = top_level_parts(text[1:-1]) if re.fullmatch(r"\([-\d, ]+\)", text) else []
    return f"({','.join([*parts, '1'])})".translate(FULL_WIDTH) if len(parts) > 1 else None


NEIGHBOURS: dict[str, Alteration] = {
    "exponent with a digit more": other_power,
    "power of it": around_large_number("{0}**2", "{0}^-1", "{0}^10", "x^10-{0}", "{0}²", "{0}⁻¹"),
    "power of a large number": seldom(around_large_number("2^{{{0}^{{{1}}}}}", "({1}^9)!", "{0}^{{10^{{10}}}}")),
    "fraction behind it": around_large_number("{0}½", "{0}¼", "{1}⅓"),
    "double factorial of more": seldom(around_large_number("{1}!!", "({1})!!")),
    "function of it": seldom(
        around_large_number("ln({0})", "exp({0})", "sin({0})", "log_2({0})", "sqrt({0})", "abs({1})")
    ),
    "floor of more": seldom(
        around_large_number(
            r"\lfloor {1}.5 \rfloor", r"\operatorname{{floor}}({1})", "ceil({0}.5)", r"\lceil {0}.01 \rceil"
        )
    ),
    "remainder of it": around_large_number(r"{0} \bmod {0}", r"{1} \bmod {0}", "{0} + {0} mod {0}"),
    "word that changes it": around_large_number(
        "{0}万", "{0}倍", r"{0}\text{{ 以上}}", r"\text{{不是}}{0}", "{0}个半", "{0} тысяч", "{0}분의 1"
    ),
    "word that may change it": around_large_number(
        *(
            "{0} twelfths",
            "{0} below zero",
            "{0} lakh",
            r"{0}\text{{ docenas}}",
            "{0}打",
            "{0}...",
            "{0}'",
            "{0} percent more",
        ),
        *(r"{0}\text{{ half}}", "{0} out of eleven", "{0} сотен", "{0} milyon", "{0} basis points"),
    ),
    "one of two boxes": around_large_number(r"{1}}} or \boxed{{{0}", r"{1}}} \boxed{{{0}", r"{1}}}, $\boxed{{{0}"),
    "sum as a product": seldom(sum_as_product),
    "other number in words": around_large_number(r"\text{{minus {1}}}", "{1}元", "{1} 个", "１{0}"),
    "chosen of it": seldom(around_large_number(r"{{{0} \choose 0}}", r"{{0 \choose {0}}}", r"{{{1} \choose {1}}}")),
    "boxes with another number": other_boxes,
    "other inequality": other_inequality,
    "other multiple of a matrix": other_matrix,
    "letters swapped": letters_swapped,
    "tuple in full width": tuple_of_bounds,
    "no number": around_large_number("NaN", "inf", "None", "-inf"),
}


def rewritings(problem_id: str, answer: str) -> Iterator[tuple[str, str]]:
    for kind, change in (REWRITINGS | NOTATIONS).items():
        rewritten = change(answer)
        if rewritten is not None:
            yield kind, rewritten


def alterations(problem_id: str, answer: str) -> Iterator[tuple[str, str]]:
    for kind, change in (ALTERATIONS | NEIGHBOURS).items():
        altered = change(answer, random.Random(f"{problem_id}/{kind}"))
        if altered is not None and altered != answer:
            yield kind, altered
