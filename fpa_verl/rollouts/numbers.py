"""Numbers of other people's files, with the digits that were written there."""

from __future__ import annotations

import math
from decimal import Decimal


class Written(float):
    """A number of a JSON file, and the digits that stand there for it: 1e23 is no binary fraction."""

    digits: str

    def __new__(cls, digits: str) -> Written:
        value = super().__new__(cls, digits)
        value.digits = digits
        return value


def number_text(value: float) -> str:
    """A finite number in digits: 1e20 as 100000000000000000000, 7.0 as 7, 1e-05 as 0.00001.

    Those that were written, or the fewest that tell it from its neighbours.
    """
    exact = Decimal(value.digits if isinstance(value, Written) else repr(value))
    if not exact:
        return "0"
    # Decimal's own way to leave zeros out rounds to 28 digits.
    digits = f"{exact:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def finite(digits: str) -> Written:
    """What `json` makes of a number with a point or an exponent.

    Raises:
        ValueError: no float comes near it.
    """
    if not math.isfinite(value := Written(digits)):
        raise ValueError(f"{digits} is too large for a number: write it as a text")
    if not value and Decimal(digits):
        raise ValueError(f"{digits} is too small for a number: write it as a text")
    return value


def constant(name: str) -> None:
    """NaN is what data frames write for null."""
    if name != "NaN":
        raise ValueError(f"{name} is no JSON number")
