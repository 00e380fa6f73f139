"""Numbers that a user sets, with what they may be: fields of a dataclass that are checked together."""

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
    whole: bool = False
    optional: bool = False
    """May be left unset."""

    def __contains__(self, value: object) -> bool:
        if value is None:
            return self.optional
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return (
            -LARGEST < value < LARGEST
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        sides = {"of at least": self.at_least, "above": self.above, "of at most": self.at_most}
        limits = " and ".join(f"{name} {bound}" for name, bound in sides.items() if bound is not None)
        number = f"a {'whole ' * self.whole}number {limits}".strip()
        return f"null, or {number}" if self.optional else number


def bounded(default: Any, **bounds: Any) -> Any:
    """A dataclass field that holds a number within `Bounds(**bounds)`; unset by default, it may stay so."""
    return dataclasses.field(default=default, metadata={"bounds": Bounds(**bounds, optional=default is None)})


def out_of_bounds(settings: Any) -> Iterator[tuple[str, Any, Bounds]]:
    """Name, value and bounds of every field whose value is not within them, of a dataclass of `bounded` fields."""
    for field in dataclasses.fields(settings):
        value, bounds = getattr(settings, field.name), field.metadata["bounds"]
        if value not in bounds:
            yield field.name, value, bounds
