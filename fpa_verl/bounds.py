"""What a user sets, with what it may be: fields of a dataclass that are checked together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# No setting is meant to be larger; infinity and NaN are not below it.
LARGEST = 1e6


@dataclass(frozen=True)
class Bounds:
    """What a number may be; None: no such bound."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    whole: bool = False
    optional: bool = False
    """May be left unset."""

    def __contains__(self, value: object) -> bool:
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return (
            -LARGEST <= value <= LARGEST
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        sides = {"of at least": self.at_least, "above": self.above, "of at most": self.at_most, "below": self.below}
        limits = " and ".join(f"{name} {bound:g}" for name, bound in sides.items() if bound is not None)
        number = f"a {'whole ' * self.whole}number {limits}".strip()
        return f"null, or {number}" if self.optional else number


@dataclass(frozen=True)
class Choice:
    """Words of which a setting is one."""

    words: tuple[str, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.words

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True)
class NumberOrWord:
    """A number within bounds, or a word in its place."""

    word: str
    number: Bounds

    def __contains__(self, value: object) -> bool:
        return value == self.word or value in self.number

    def __str__(self) -> str:
        return f"{self.word}, or {self.number}"


def bounded(default: Any, **bounds: Any) -> Any:
    """A dataclass field that holds a number within `Bounds(**bounds)`; unset by default, it may stay so."""
    return dataclasses.field(default=default, metadata={"bounds": Bounds(**{"optional": default is None} | bounds)})


def one_of(*words: str) -> Any:
    """A dataclass field that holds one of the words, the first by default."""
    return dataclasses.field(default=words[0], metadata={"bounds": Choice(words)})


def number_or(word: str, default: Any, **bounds: Any) -> Any:
    """A dataclass field that holds a number within `Bounds(**bounds)`, or the word."""
    return dataclasses.field(default=default, metadata={"bounds": NumberOrWord(word, Bounds(**bounds))})


def out_of_bounds(settings: Any) -> Iterator[tuple[str, Any, Bounds | Choice | NumberOrWord]]:
    """Name, value and bounds of every field of a dataclass that has bounds and is not within them."""
    for field in dataclasses.fields(settings):
        value, bounds = getattr(settings, field.name), field.metadata.get("bounds")
        if bounds is not None and value not in bounds:
            is_large = isinstance(value, int | float) and abs(value) > LARGEST
            # The bound that all have is said where it is the reason.
            yield field.name, value, _with_largest(bounds) if is_large else bounds


def _with_largest(bounds: Bounds | Choice | NumberOrWord) -> Bounds | Choice | NumberOrWord:
    if isinstance(bounds, Choice):
        return bounds
    if isinstance(bounds, NumberOrWord):
        return dataclasses.replace(bounds, number=_below_largest(bounds.number))
    return _below_largest(bounds)


def _below_largest(bounds: Bounds) -> Bounds:
    return dataclasses.replace(bounds, at_most=bounds.at_most or LARGEST)
