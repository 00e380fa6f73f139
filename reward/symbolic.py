r"""What needs a computer algebra system: imported only in the scorer's child processes.

Expressions are read by math-verify's LaTeX parser. Two of them are compared as numbers of 40 digits at
random points where that is possible, and by math-verify where it is not. Decimals are made fractions first,
so that nothing is rounded.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy
from math_verify import verify
from math_verify.grader import should_treat_as_complex

from fpa_verl.reward.answers import Answer, Relation, formulas
from fpa_verl.reward.latex import UnreadableError
from fpa_verl.reward.limits import TooLargeError, install
from fpa_verl.reward.values import UnsettledError, evaluate

install()

_DIGITS = 40
_TOLERANCE = sympy.Float(10) ** -25
# Positive and negative: |x| is not x.
_POINTS = 3
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)")
_DEGREES = re.compile(r"(\\frac\{\d+\}\{\d+\}|\d+)\s*\^\{\\circ\}")
# Letters that the parser takes for functions or drops.
_GREEK = {name: rf"w_{{{900 + i}}}" for i, name in enumerate(("beta", "gamma", "zeta", "Gamma", "eta"))}
_GREEK_COMMAND = re.compile(rf"\\({'|'.join(_GREEK)})(?![a-zA-Z])")
# The parser knows no capitals, A would be a, and drops primes.
_LETTER = re.compile(
    r"(?P<kept>(?<=matrix\})\^\{T\}|\\mathbb\{[A-Z]\}|\\[a-zA-Z]+|\\.|[FGHP](?=\s*\())"
    r"|(?P<letter>[A-Z]|[a-z](?=(?:_\{\w+\})?'))(?:_\{(?P<index>\w+)\})?(?P<primes>'*)",
    re.DOTALL,
)
# The parser drops the index.
_INDEXED_NUMBER = re.compile(r"\d\s*_\{")
_ENVIRONMENT = re.compile(r"\\(begin|end)\{(?:[bB]?matrix|smallmatrix|array)\}(?:\{[lcr| ]*\})?")
_DOUBLE_FACTORIAL = re.compile(r"(\([^()]*\)|[a-zA-Z]|\d+)!!")
# coth is no product of cot and h, sinc x no sin(cx).
_MISTAKEN = re.compile(r"\\(?:(?:arc?)?(?:cot|sec|csc)h|sinc)")
# Feet or minutes behind a number, and numbers in a row, which are no product: equal to themselves alone.
_PRIMED = re.compile(r"(?<=[\w)\]}])'+")
_ROW = re.compile(r"(?<![\d.])\d+(?:\.\d+)?(?: +\d+(?:\.\d+)?)+(?![\d.])")
_PRIMES, _ROWS = 991, 992
_PLACE = "w_{{double{}}}"
_MAX_DOUBLE = 10_000
_WHOLE = re.compile(r"(?<![\d.}!])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}")


class _Converter(_Latex2Sympy):
    """The parser's tree as a sympy expression, numbers side by side multiplied, gcd of numbers alone worked out."""

    def convert_postfix_list(self, arr: Any, i: int = 0) -> Any:
        """A product. The library adds a number to a whole number before it; mixed numbers are written out before."""
        found = super().convert_postfix_list(arr, i)
        return sympy.Mul(found, 1, evaluate=False) if i and isinstance(found, sympy.Rational) else found

    def handle_gcd_lcm(self, f: str, args: Any) -> Any:
        """Of numbers that `limits` lets be formed; of letters a function. The library says that gcd(n, 4) is 1."""
        worked_out = [arg.doit() for arg in args]
        if all(arg.is_Rational for arg in worked_out):
            return super().handle_gcd_lcm(f, worked_out)
        return sympy.Function(f)(*sorted(worked_out, key=sympy.default_sort_key))


def _digits_apart(match: re.Match[str]) -> str:
    return {" ": "p", ".": "d"}[match[0]]


def _fraction(match: re.Match[str]) -> str:
    whole, places = match[1] or "0", match[2]
    return rf"\frac{{{int(whole + places)}}}{{{10 ** len(places)}}}"


def _as_index(match: re.Match[str]) -> str:
    if match["kept"]:
        return match["kept"]
    index = f"0{match['index']}" if match["index"] else ""
    return f"w_{{{ord(match['letter'])}{index}{'p' * len(match['primes'])}}}"


def _mixed(match: re.Match[str]) -> str:
    whole, above, below = (int(group) for group in match.groups())
    return rf"({whole}+\frac{{{above}}}{{{below}}})" if above < below else match[0]


@lru_cache(maxsize=512)
def parsed(text: str) -> Any:
    """A sympy expression.

    Raises:
        UnreadableError: the parser does not read it.
    """
    if _INDEXED_NUMBER.search(text) or r"\text{" in text or _MISTAKEN.search(text):
        raise UnreadableError(f"words, an indexed number or an unknown function in a formula: {text}")
    prepared = _ENVIRONMENT.sub(r"\\\1{pmatrix}", text)
    prepared = _ROW.sub(lambda match: f" w_{{{_ROWS}p{re.sub('[ .]', _digits_apart, match[0])}}}", prepared)
    double_factorials: list[str] = []
    if "!!" in text:
        prepared = _DOUBLE_FACTORIAL.sub(lambda match: _noted(match[1], double_factorials), prepared)
    prepared = _DECIMAL.sub(_fraction, prepared)
    prepared = _DEGREES.sub(r"(\\frac{\1 \\pi}{180})", prepared)
    prepared = _WHOLE.sub(_mixed, prepared)
    prepared = _LETTER.sub(_as_index, prepared)
    prepared = _PRIMED.sub(lambda match: rf" w_{{{_PRIMES}{'p' * len(match[0])}}}", prepared)
    prepared = _GREEK_COMMAND.sub(lambda match: _GREEK[match[1]], prepared)
    try:
        found = _Converter(is_real=not _is_complex(prepared)).parse(prepared)
    except (MemoryError, TooLargeError):
        raise
    except Exception as error:  # the parser raises whatever its grammar stumbles over
        raise UnreadableError(f"not LaTeX that the parser reads: {text}") from error
    if not isinstance(found, (sympy.Basic, sympy.MatrixBase)):
        raise UnreadableError(f"not a mathematical expression: {text}")
    # The parser takes the imaginary unit for a letter.
    meant = {"i": sympy.I} | {_PLACE.format(i): _double_factorial(of) for i, of in enumerate(double_factorials)}
    return found.subs({symbol: meant[symbol.name] for symbol in found.free_symbols if symbol.name in meant})


def _noted(operand: str, operands: list[str]) -> str:
    """A letter in the place of a double factorial, which the parser takes for the factorial of a factorial."""
    operands.append(operand)
    return _PLACE.format(len(operands) - 1)


def _double_factorial(operand: str) -> Any:
    """Of a whole number its value, of letters a function that is equal to itself alone."""
    of = parsed(operand)
    return sympy.factorial2(of) if of.is_Integer and 0 <= of < _MAX_DOUBLE else sympy.Function("double_factorial")(of)


def _is_complex(text: str) -> bool:
    return should_treat_as_complex(text) or re.search(r"(?<![a-zA-Z\\])i(?![a-zA-Z])", text) is not None


def check_readable(answer: Answer) -> None:
    """Whether every expression in an answer can be compared with others.

    Raises:
        UnreadableError: one cannot.
    """
    for formula in formulas(answer):
        try:
            evaluate(formula)
        except UnsettledError:
            parsed(formula)


def check_values(answer: Answer) -> None:
    """Form the values of the expressions in an answer, as it takes to compare them with others."""
    for formula in formulas(answer):
        try:
            evaluate(formula)
        except UnsettledError:
            found = parsed(formula)
            found.doit() if _is_matrix(found) else _equal_at_points(found, found)


class SympyAlgebra:
    """`comparison.Algebra` by sympy and math-verify."""

    def equal(self, a: str, b: str) -> bool:
        try:
            first, second = parsed(a), parsed(b)
        except UnreadableError:
            return False
        if _is_matrix(first) or _is_matrix(second):
            return _equal_matrices(first, second)
        decided = _equal_at_points(first, second)
        return _verified(first, second) if decided is None else decided

    def same_relation(self, a: Relation, b: Relation) -> bool:
        mirrored = {"<": ">", r"\leq": r"\geq", ">": "<", r"\geq": r"\leq"}
        try:
            first, second = (parsed(r.left) - parsed(r.right) for r in (a, b))
        except (UnreadableError, TypeError):
            return False
        if not (isinstance(first, sympy.Expr) and isinstance(second, sympy.Expr)):
            return False
        factor = _factor(first, second)
        if factor is None or not factor.is_nonzero:
            return False
        if a.sign not in mirrored:
            return a.sign == b.sign
        return bool(b.sign == (a.sign if factor.is_positive else mirrored[a.sign]))


def _factor(a: Any, b: Any) -> Any:
    """The number that `a` is `b` times; None where it is none."""
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    values = {symbol: sympy.Rational(7 + 3 * i, 5) for i, symbol in enumerate(symbols)}
    at_a, at_b = a.subs(values), b.subs(values)
    proportional = _equal_at_points(a * at_b, b * at_a) if _number_at(at_b, {}) else None
    if proportional is None:
        factor = sympy.simplify(a / b)
        return None if factor.free_symbols else factor
    return at_a / at_b if proportional else None


def _is_matrix(found: Any) -> bool:
    return bool(found.is_Matrix or found.has(sympy.MatrixBase))


def _equal_matrices(a: Any, b: Any) -> bool:
    """Entry by entry, sums and products worked out."""
    matrices = []
    for found in (a, b):
        worked_out = found.doit()
        if isinstance(worked_out, sympy.MatrixExpr):
            worked_out = worked_out.as_explicit()
        if not isinstance(worked_out, sympy.MatrixBase):
            return False
        matrices.append(worked_out)
    first, second = matrices
    return first.shape == second.shape and all(_equal_at_points(x, y) for x, y in zip(first, second, strict=True))


def _verified(a: Any, b: Any) -> bool:
    """math-verify's verdict, which depends on the order: what is equal in either counts as equal."""
    try:
        return any(
            verify([x], [y], float_rounding=12, timeout_seconds=None, raise_on_error=True) for x, y in ((a, b), (b, a))
        )
    except (ValueError, TypeError, AttributeError, NotImplementedError):  # two kinds of things that do not compare
        return False


def _equal_at_points(a: Any, b: Any) -> bool | None:
    """Equality as numbers; None where one of the two has no value at a point."""
    if not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr)):
        return None
    # Steps may lie anywhere: a few points say nothing about them.
    if a.free_symbols and (
        a.has(sympy.floor, sympy.ceiling, sympy.Mod) or b.has(sympy.floor, sympy.ceiling, sympy.Mod)
    ):
        return None
    a, b = a.doit(), b.doit()
    symbols = sorted(a.free_symbols | b.free_symbols, key=str)
    told = 0
    for point in range(_POINTS if symbols else 1):
        values = {
            symbol: sympy.Rational((7919 * (i + 1) + 104729 * point) % 1009 + 11, 97 + 10 * i)
            * (-1 if point == 2 else 1)
            for i, symbol in enumerate(symbols)
        }
        x, y = (_number_at(expression, values) for expression in (a, b))
        if x is None or y is None:
            if point < 2:
                return None
            continue
        if abs(x - y) > _TOLERANCE * max(abs(x), abs(y)):
            return False
        told += 1
    return True if told else None


def _number_at(expression: Any, values: dict[Any, Any]) -> Any:
    number = sympy.N(expression.subs(values), _DIGITS)
    if not number.is_number or number.has(sympy.nan, sympy.zoo, sympy.oo) or not number.is_complex:
        return None
    real, imaginary = number.as_real_imag()
    if not (real.is_Float or real.is_Integer or real.is_Rational):
        return None
    # Below the precision it was computed with, a real or imaginary part is zero.
    scale = max(abs(real), abs(imaginary))
    parts = [part if abs(part) > _TOLERANCE * scale else sympy.Integer(0) for part in (real, imaginary)]
    return sympy.N(parts[0] + sympy.I * parts[1], _DIGITS)
