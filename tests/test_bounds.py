from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from fpa_verl.bounds import LARGEST, Bounds, bounded, number_or, out_of_bounds


@pytest.mark.parametrize(
    ("bounds", "within", "beyond"),
    [
        (Bounds(at_least=0), [0, 0.5, 7, LARGEST], [-1e-9, math.nan, math.inf, 1.01 * LARGEST, "0", True, None]),
        (Bounds(above=0, at_most=1), [1e-9, 1], [0, 1.1, None]),
        (Bounds(at_least=1, whole=True), [1, 8], [0, 2.0, 2.5, True, "2"]),
        (Bounds(at_least=1, whole=True, optional=True), [None, 1], [0]),
    ],
)
def test_what_is_within(bounds, within, beyond):
    assert [value in bounds for value in within] == [True] * len(within)
    assert [value in bounds for value in beyond] == [False] * len(beyond)


def test_bounds_in_words():
    assert str(Bounds(at_least=0)) == "a number of at least 0"
    assert str(Bounds(above=0, at_most=1)) == "a number above 0 and of at most 1"
    assert str(Bounds(at_least=1, whole=True, optional=True)) == "null, or a whole number of at least 1"
    assert str(Bounds()) == "a number"


@pytest.mark.parametrize("value", [1.1e6, float("inf")])
def test_the_bound_that_all_have_is_said_where_it_is_the_reason(value):
    @dataclass(frozen=True)
    class Settings:
        beta: float = bounded(1.0, above=0)
        lam: float | str = number_or("auto", 2.0, at_least=0)

    (_, _, one), (_, _, other) = out_of_bounds(Settings(value, value))
    assert str(one) == "a number above 0 and of at most 1e+06"
    assert str(other) == "auto, or a number of at least 0 and of at most 1e+06"


def test_every_field_out_of_bounds_is_named():
    @dataclass(frozen=True)
    class Settings:
        n: int = bounded(1, at_least=1, whole=True)
        share: float = bounded(0.5, above=0)
        limit: int | None = bounded(None, at_least=1, whole=True)

    assert list(out_of_bounds(Settings())) == []
    found = [(name, value) for name, value, _ in out_of_bounds(Settings(n=0, share=-1.0, limit=0))]
    assert found == [("n", 0), ("share", -1.0), ("limit", 0)]
