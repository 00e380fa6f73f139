"""Numbers that are not formed: sympy is made to refuse those of more than `MAX_BITS` before it computes them.

Imported only in the scorer's child processes. What is slow in another way ends with the answer's processor time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy

# A factorial of 60,000, or 300,000 digits: formed in a fraction of a second, and of no use to an answer.
MAX_BITS = 1_000_000


class TooLargeError(Exception):
    """A power, factorial or binomial coefficient beyond `MAX_BITS`."""


def _bits(number: Any) -> int:
    return max(abs(int(number.p)).bit_length(), int(number.q).bit_length())


def _power_bits(base: Any, exponent: Any) -> float:
    """Bits of a power of rational numbers; 0 where it is not formed, and for those of 1 and -1."""
    if not isinstance(exponent, sympy.Rational) or not exponent.is_finite or abs(base) == 1:
        return 0
    # The exponent may itself have a million bits, which no float holds.
    return min(abs(int(exponent.p)) // int(exponent.q), MAX_BITS + 1) * _bits(base)


def _factorial_bits(_: Any, n: Any) -> float:
    return _product_bits(n, n)


def _binomial_bits(_: Any, n: Any, k: Any) -> float:
    return _product_bits(min(k, n - k), n) if isinstance(n, sympy.Integer) and isinstance(k, sympy.Integer) else 0


def _product_bits(count: Any, largest: Any) -> float:
    """At most, of so many factors up to `largest`."""
    if not (isinstance(count, sympy.Integer) and isinstance(largest, sympy.Integer)):
        return 0
    return min(max(int(count), 0), MAX_BITS + 1) * max(int(largest).bit_length() - 1, 0)


def _guarded(function: Callable[..., Any], bits: Callable[..., float]) -> Callable[..., Any]:
    def guarded(*arguments: Any) -> Any:
        if bits(*arguments) > MAX_BITS:
            raise TooLargeError(function.__qualname__)
        return function(*arguments)

    return guarded


def install() -> None:
    for numbers in (sympy.Integer, sympy.Rational):
        numbers._eval_power = _guarded(numbers._eval_power, _power_bits)
    for function, bits in ((sympy.factorial, _factorial_bits), (sympy.binomial, _binomial_bits)):
        function.eval = classmethod(_guarded(function.eval.__func__, bits))
