r"""Values of algebraic expressions, exact where they are rational, without a computer algebra system.

Reads numbers, letters, + - * /, ``\frac``, ``\sqrt``, ``\pi``, powers and factorials in the spelling of
`latex.canonical`. Letters stand for fixed random rationals: two expressions in letters that agree at such
a point are the same function (Schwartz and Zippel; the chance of an accident is below 1e-9), and two that
differ there are not. What is not rational is kept as an interval of 60 digits. Whatever is outside this
grammar, or would take long, is left to the child process.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from decimal import Context, Decimal, Overflow, localcontext
from fractions import Fraction
from functools import lru_cache

_PRECISION = 60
_ROUNDING = Decimal(10) ** (2 - _PRECISION)
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803")
# Two irrational values count as told apart or as equal only where their intervals are this much narrower.
_NARROW = Decimal("1e-30")
_MAX_BITS = 20_000
_MAX_EXPONENT = 5_000
_MAX_FACTORIAL = 500
_CONTEXT = Context(prec=_PRECISION, Emax=10**9, Emin=-(10**9))


class UnsettledError(ValueError):
    """This module cannot tell; the child process may."""


@dataclass(frozen=True)
class Interval:
    """All numbers within `error` of `middle`."""

    middle: Decimal
    error: Decimal


Value = Fraction | Interval


def _interval(value: Value) -> Interval:
    if isinstance(value, Interval):
        return value
    middle = Decimal(value.numerator) / Decimal(value.denominator)
    return Interval(middle, abs(middle) * _ROUNDING)


def _add(a: Value, b: Value) -> Value:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a + b
    x, y = _interval(a), _interval(b)
    return Interval(x.middle + y.middle, x.error + y.error + (abs(x.middle) + abs(y.middle)) * _ROUNDING)


def _multiply(a: Value, b: Value) -> Value:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return _bounded(a * b)
    if Fraction(0) in (a, b):
        return Fraction(0)
    x, y = _interval(a), _interval(b)
    middle = x.middle * y.middle
    error = abs(x.middle) * y.error + abs(y.middle) * x.error + x.error * y.error + abs(middle) * _ROUNDING
    return Interval(middle, error)


def _divide(a: Value, b: Value) -> Value:
    if isinstance(b, Fraction):
        if b == 0:
            raise UnsettledError("division by zero")
        return _multiply(a, 1 / b)
    if abs(b.middle) <= 2 * b.error:
        raise UnsettledError("division by what may be zero")
    inverse = 1 / b.middle
    return _multiply(a, Interval(inverse, 2 * inverse * inverse * b.error + abs(inverse) * _ROUNDING))


def _root(value: Value, order: int) -> Value:
    if isinstance(value, Fraction):
        sign = -1 if value < 0 else 1
        if sign < 0 and order % 2 == 0:
            raise UnsettledError("even root of a negative number")
        parts = [_exact_root(abs(part), order) for part in (value.numerator, value.denominator)]
        if parts[0] is not None and parts[1] is not None:
            return Fraction(sign * parts[0], parts[1])
        positive = _interval(abs(value))
    else:
        if value.middle <= 2 * value.error:
            raise UnsettledError("root of what may be negative")
        sign, positive = 1, value
    middle = positive.middle ** (Decimal(1) / order)
    # The derivative at the lower end is at most twice that in the middle.
    return Interval(sign * middle, 2 * middle / positive.middle * positive.error + middle * 100 * _ROUNDING)


def _exact_root(number: int, order: int) -> int | None:
    root = math.isqrt(number) if order == 2 else round(number ** (1 / order)) if number < 2**50 else 0
    return root if root**order == number else None


def _power(base: Value, exponent: Value) -> Value:
    if not isinstance(exponent, Fraction) or abs(exponent) > _MAX_EXPONENT or exponent.denominator > 12:
        raise UnsettledError("exponent out of range")
    if exponent.denominator > 1 and not (isinstance(base, Fraction) and base > 0):
        raise UnsettledError("root of what may be negative")
    n = abs(exponent.numerator)
    if isinstance(base, Fraction):
        if base == 0 and exponent <= 0:
            raise UnsettledError("power of zero")
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if size * n > _MAX_BITS:
            raise UnsettledError("number out of range")
        result: Value = base**n
    else:
        if n > 64:
            raise UnsettledError("exponent out of range")
        result = Fraction(1)
        for _ in range(n):
            result = _multiply(result, base)
    if exponent.denominator > 1:
        result = _root(result, exponent.denominator)
    return _divide(Fraction(1), result) if exponent < 0 else result


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise UnsettledError("number out of range")
    return value


def compare(a: Value, b: Value) -> bool:
    """Whether two values are equal.

    Raises:
        UnsettledError: the intervals overlap and are too wide to conclude that the values are equal.
    """
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    with localcontext(_CONTEXT):
        x, y = _interval(a), _interval(b)
        gap, doubt = abs(x.middle - y.middle), x.error + y.error
        if gap > doubt:
            return False
        if doubt > _NARROW * max(abs(x.middle), abs(y.middle)):
            raise UnsettledError("intervals too wide")
        return True


_TOKEN = re.compile(
    r"(?P<space> +)"
    r"|(?P<number>\d+(?:\.\d*)?|\.\d+)(?:\\overline\{(?P<repeating>\d+)\})?"
    r"|(?P<letter>[a-zA-Z])(?:_\{(?P<subscript>[a-zA-Z0-9]+)\})?"
    r"|(?P<greek>\\(?:alpha|theta|lambda|phi|mu|rho|sigma|omega|delta|epsilon)(?![a-zA-Z]))"
    r"|(?P<command>\\(?:frac|sqrt|pi|cdot)(?![a-zA-Z]))"
    r"|(?P<symbol>!!|[-+/^!(){}\[\]])"
)
# Letters that are more than a variable: Euler's number, the imaginary unit, and applied functions.
_NOT_VARIABLES = frozenset("ei")
_APPLIED = re.compile(
    r"(?<![\\a-zA-Z])(?:[fghFGHPQ](?:_\{[^{}]*\})?\s*\(|[a-zA-Z]{5,}|[a-z]*(?:sin|cos|tan|log|ln))|[a-zA-Z]'"
)


@lru_cache(maxsize=4096)
def _variable(name: str, point: int) -> Fraction:
    """A positive rational for a letter, the same in every process."""
    digest = hashlib.blake2b(f"{point}/{name}".encode(), digest_size=8).digest()
    return Fraction(10_000 + int.from_bytes(digest[:4], "big"), 10_000 + int.from_bytes(digest[4:6], "big"))


class _Parser:
    """Recursive descent; nesting is bounded by `latex.MAX_DEPTH`."""

    def __init__(self, text: str, point: int) -> None:
        self._tokens: list[tuple[str, str]] = []
        self._point = point
        self._at = 0
        i = 0
        while i < len(text):
            match = _TOKEN.match(text, i)
            if match is None:
                raise UnsettledError(f"'{text[i]}' is outside the grammar")
            i = match.end()
            kind = str(match.lastgroup)
            if kind in ("repeating", "subscript"):
                kind = "number" if kind == "repeating" else "letter"
            if kind == "space":
                # "2 3" is not 23: a space between two digits must not vanish.
                if i < len(text) and text[i].isdigit() and self._tokens and self._tokens[-1][0] == "number":
                    self._tokens.append(("gap", ""))
                continue
            self._tokens.append((kind, match[0]))

    def parse(self) -> Value:
        value = self._sum()
        if self._at < len(self._tokens):
            raise UnsettledError("something is left over")
        return value

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self, wanted: str | None = None) -> str:
        text = self._peek()[1]
        if wanted is not None and text != wanted:
            raise UnsettledError(f"'{wanted}' is missing")
        self._at += 1
        return text

    def _sum(self) -> Value:
        value = self._product()
        while self._peek()[1] in ("+", "-"):
            sign = self._take()
            term = self._product()
            value = _add(value, term if sign == "+" else _multiply(Fraction(-1), term))
        return value

    def _product(self) -> Value:
        sign = 1
        while self._peek()[1] in ("+", "-"):
            sign *= -1 if self._take() == "-" else 1
        value = self._factor()
        divided = False
        while True:
            kind, text = self._peek()
            if text in (r"\cdot", "/"):
                self._take()
                minus = self._peek()[1] == "-"
                if minus:
                    self._take()
                factor = self._factor()
                value = _multiply(value, factor) if text == r"\cdot" else _divide(value, factor)
                sign, divided = -sign if minus else sign, divided or text == "/"
            elif kind in ("letter", "greek", "command") or text in ("(", "{"):
                if divided:
                    raise UnsettledError("1/2x has two readings")
                value = _multiply(value, self._factor())
            elif kind in ("number", "gap"):
                raise UnsettledError("two numbers side by side")
            else:
                return _multiply(Fraction(sign), value)

    def _factor(self) -> Value:
        value = self._base()
        while self._peek()[1] in ("!", "!!", "^"):
            if (sign := self._take()) != "^":
                value = self._factorial(value, step=len(sign))
            else:
                self._take("{")
                exponent = self._sum()
                self._take("}")
                value = _power(value, exponent)
        return value

    @staticmethod
    def _factorial(value: Value, step: int) -> Value:
        """N! and, in steps of two, n!!."""
        if not isinstance(value, Fraction) or value.denominator != 1 or not 0 <= value <= _MAX_FACTORIAL:
            raise UnsettledError("factorial out of range")
        return Fraction(math.prod(range(int(value), 0, -step)))

    def _base(self) -> Value:
        kind, text = self._peek()
        self._at += 1
        if kind == "number":
            return self._mixed(_number(text))
        if kind in ("letter", "greek"):
            if text[0] in _NOT_VARIABLES:
                raise UnsettledError(f"'{text}' may be a constant")
            return _variable(text, self._point)
        if text == r"\pi":
            return Interval(_PI, _PI * _ROUNDING)
        if text == r"\frac":
            return _divide(self._group(), self._group())
        if text == r"\sqrt":
            order = 2
            if self._peek()[1] == "[":
                self._take()
                written = self._take()
                order = int(written) if written.isdigit() and 2 <= int(written) <= 12 else 0
                self._take("]")
            if not order:
                raise UnsettledError("root out of range")
            return _root(self._group(), order)
        if text in ("(", "{"):
            value = self._sum()
            self._take({"(": ")", "{": "}"}[text])
            return value
        raise UnsettledError(f"'{text}' is outside the grammar")

    def _group(self) -> Value:
        self._take("{")
        value = self._sum()
        self._take("}")
        return value

    def _mixed(self, whole: Value) -> Value:
        r"""A whole number directly before a proper fraction of whole numbers is a mixed number."""
        following = [text for _, text in self._tokens[self._at : self._at + 7]]
        if len(following) < 7 or [following[i] for i in (0, 1, 3, 4, 6)] != [r"\frac", "{", "}", "{", "}"]:
            return whole
        above, below = following[2], following[5]
        if not (above.isdigit() and below.isdigit() and int(above) < int(below) and self._is_whole_before()):
            return whole
        self._at += 7
        return _add(whole, Fraction(int(above), int(below)))

    def _is_whole_before(self) -> bool:
        return self._tokens[self._at - 1][1].isdigit()


def _number(text: str) -> Fraction:
    if len(text) > 1000:
        raise UnsettledError("number out of range")
    digits, _, repeating = text.partition(r"\overline{")
    value = Fraction(digits.rstrip(".") if not digits.startswith(".") else "0" + digits)
    if not repeating:
        return value
    if "." not in digits:
        raise UnsettledError("repeating digits without a point")
    block = repeating.rstrip("}")
    places = len(digits.partition(".")[2])
    return value + Fraction(int(block), (10 ** len(block) - 1) * 10**places)


@lru_cache(maxsize=16_384)
def evaluate(text: str, point: int = 1) -> Value:
    """Value of an expression, its letters at the random point number `point`.

    Raises:
        UnsettledError: outside the grammar, not real there, or too large.
    """
    if _APPLIED.search(text):
        raise UnsettledError("a function or a word")
    try:
        with localcontext(_CONTEXT):
            return _Parser(text, point).parse()
    except (ArithmeticError, Overflow, RecursionError) as error:
        raise UnsettledError(str(error)) from error
