"""Whether a statement holds: by intervals, each on one side of its bound or on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from fpa_verl.evaluation.intervals import LEVEL
from fpa_verl.report.claims.effects import Effect, measure
from fpa_verl.report.claims.statements import Direction, Statement
from fpa_verl.report.statistics.arms import Arm


class Verdict(str, Enum):
    """What runs say of a statement or of a part of one."""

    HOLDS = "holds"
    FAILS = "does not hold"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


def side(interval: tuple[float, float], direction: Direction, bound: float) -> Verdict:
    """Where the whole interval lies: on the side that is said, on the other, or on neither; NaN lies on neither."""
    low, high = interval
    above, below = low > bound, high < bound
    if above or below:
        return Verdict.HOLDS if above == (direction == ">") else Verdict.FAILS
    return Verdict.UNDECIDED


def of_part(effect: Effect, parts: int = 1) -> Verdict:
    """The verdict on one of the `parts` of a statement.

    A statement is said to hold only where all parts do, so that its chance to be said wrongly is at most that of one
    part, and each is judged at `LEVEL` as it is (intersection-union test). It is said not to hold where any part does
    not, and k parts are k chances to be wrong: for that the interval is at 1 - (1 - LEVEL) / k (Bonferroni).
    """
    if effect.measured is None:
        return Verdict.NOT_RUN
    if effect.missing:
        return Verdict.UNDECIDED
    part = effect.part
    if side(effect.measured.interval(LEVEL), part.direction, part.bound) is Verdict.HOLDS:
        return Verdict.HOLDS
    corrected = effect.measured.interval(corrected_level(parts))
    against = side(corrected, part.direction, part.bound)
    return against if against is Verdict.FAILS else Verdict.UNDECIDED


def corrected_level(parts: int) -> float:
    """The level at which one of so many parts is said not to hold."""
    return 1 - (1 - LEVEL) / parts


def conjunction(verdicts: Sequence[Verdict]) -> Verdict:
    """It does not hold where any part does not, whatever was not run; it holds where all do."""
    for one in (Verdict.FAILS, Verdict.NOT_RUN, Verdict.UNDECIDED):
        if one in verdicts:
            return one
    return Verdict.HOLDS


@dataclass(frozen=True)
class Decision:
    """A statement, its effects in the order of its parts, and what they come to."""

    statement: Statement
    effects: list[Effect]

    @property
    def parts(self) -> list[Verdict]:
        return [of_part(effect, len(self.effects)) for effect in self.effects]

    @property
    def verdict(self) -> Verdict:
        return conjunction(self.parts)


def decide(statement: Statement, arms: list[Arm], sources: list[str]) -> Decision:
    """Measure every part of a statement.

    Args:
        statement: any; those of the paper are `statements.paper_statements`.
        arms: of finished runs.
        sources: problem sets, of which all problems count alike.
    """
    return Decision(statement, [measure(part, arms, sources) for part in statement.parts])
