"""What it takes to reach an accuracy: hours, how many times another method's, and what reusing the data makes of it.

Of a method with dataset: D the hours its dataset cost, T its hours to the target with D included, t = T - D what a run
costs by itself. Of the method compared with: T_0.

    ratio           T_0 / T
    cost of a run   D / N + t          the data shared by N runs
    break-even      least N with D / N + t <= T_0:  max(1, ceil(D / (T_0 - t))), never where t >= T_0
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fpa_verl.report.statistics.bootstrap import (
    TOLERANCE,
    Estimate,
    Passage,
    Percentile,
    Replicates,
    as_measured,
    estimate,
    share_of,
)
from fpa_verl.report.statistics.curves import Axis, Floats, MethodCurve

# A quotient that is a whole number but for rounding is one.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class TimeToTarget:
    """What one method took to reach one target.

    Attributes:
        hours: axis to the cost; infinite where the target was not reached.
        run_hours: device-hours of a run by itself, the dataset left out.
        ratio: the other method's device-hours over this one's, its share that of the replicates in which both reached
            the target; None for the other method itself.
        wall_ratio: the same of wall-clock hours.
        break_even: how many runs must share the dataset; infinite for never, None without a dataset or another method.
    """

    method: str
    target: float
    hours: dict[Axis, Estimate]
    run_hours: float
    ratio: Estimate | None = None
    wall_ratio: Estimate | None = None
    break_even: Estimate | None = None


def ratio(other: Floats, own: Floats) -> Floats:
    """T_0 / T: infinite where the other alone fell short, 0 where this one did, NaN where both did or nobody paid."""
    neither = (np.isinf(other) & np.isinf(own)) | ((other == 0) & (own == 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(neither, np.nan, other / own)


def ratio_bounds(other: Passage, own: Passage) -> tuple[Floats, Floats]:
    """The least and the most that T_0 / T may be, (B,) each.

    A method is shown to be cheaper where the other one, at the same cost or a higher one, was measured and had not got
    there yet. Where neither is, because evaluations lie apart, or one that fell short was not given as much, nothing
    says that the ratio is not 1. Where both fell short it may be anything; where nobody paid, it is 1.
    """
    told = ratio(other.time, own.time)
    shown = _was_short_at(other, own.time) | _was_short_at(own, other.time)
    fell_short = np.isinf(own.time) & np.isinf(other.time)
    told = np.where(np.isnan(told), 1.0, told)
    low = np.where(shown, told, np.minimum(told, 1.0))
    high = np.where(shown, told, np.maximum(told, 1.0))
    return np.where(fell_short, 0.0, low), np.where(fell_short, np.inf, high)


def _was_short_at(method: Passage, cost: Floats) -> NDArray[np.bool_]:
    """(B,) whether a method was measured short of the target at a cost or a higher one."""
    return cost * (1 - TOLERANCE) <= method.short


def break_even(data: float, own: Floats, other: Floats) -> Floats:
    """Least number of runs that must share the dataset; infinite for never.

    NaN where either fell short of the target, or where the base model was there before anybody paid.
    """
    run = own - data
    with np.errstate(divide="ignore", invalid="ignore"):
        least = np.maximum(1.0, np.ceil(data / (other - run) - _ROUNDING))
        least = np.where(other > run, least, np.inf)
    untold = np.isinf(own) | np.isinf(other) | (own == 0) | (other == 0)
    return np.where(untold, np.nan, least)


def cost_per_run(data: float, run: float, runs: Floats) -> Floats:
    """D / N + t for every N in `runs`."""
    return data / runs + run


def times_to_targets(
    curves: list[MethodCurve], replicates: list[Replicates], targets: list[float], against: MethodCurve | None
) -> list[TimeToTarget]:
    """Every method at every target, beside the method `against`.

    Args:
        curves: M methods.
        replicates: M of them, drawn together.
        targets: accuracies, fractions of 1.
        against: one of `curves`.
    """
    measured = [as_measured(curve) for curve in curves]
    other = next((i for i, curve in enumerate(curves) if curve is against), None)
    found = []
    for target in targets:
        for i, curve in enumerate(curves):
            axes: tuple[Axis, ...] = ("device", "wall")
            own = {axis: (measured[i].passage(target, axis), replicates[i].passage(target, axis)) for axis in axes}
            hours = {axis: estimate(value.time[0], drawn.time) for axis, (value, drawn) in own.items()}
            entry = TimeToTarget(curve.name, target, hours, max(0.0, hours["device"].value - curve.data["device"]))
            if other is not None and other != i:
                theirs = {a: (measured[other].passage(target, a), replicates[other].passage(target, a)) for a in axes}
                entry = _beside(entry, curve, own, theirs)
            found.append(entry)
    return found


def _beside(
    entry: TimeToTarget,
    curve: MethodCurve,
    own: dict[Axis, tuple[Passage, Passage]],
    theirs: dict[Axis, tuple[Passage, Passage]],
) -> TimeToTarget:
    """`entry` with its ratios and, for a method with a dataset, its break-even."""

    def pairs(axis: Axis) -> list[tuple[Passage, Passage]]:
        """(the other's, own) passage as measured and in the replicates."""
        (value, drawn), (other, other_drawn) = own[axis], theirs[axis]
        # Replicates are drawn together; where one of the two has none, there is nothing to pair.
        both = slice(min(len(drawn.time), len(other_drawn.time)))
        return [(other, value), (other_drawn[both], drawn[both])]

    def ratio_on(axis: Axis) -> Estimate:
        measured, (other, mine) = pairs(axis)
        value = float(ratio(*(one.time for one in measured))[0])
        low, high = Percentile(value, *ratio_bounds(other, mine)).interval()
        reached = np.isfinite(mine.time) & np.isfinite(other.time)
        return Estimate(value, low, high, share_of(reached))

    even = None
    if not curve.generates and all(run.data_cost_is_known for run in curve.runs):
        data = curve.data["device"]
        value, drawn = (break_even(data, mine.time, other.time) for other, mine in pairs("device"))
        even = estimate(value[0], drawn)
    return replace(entry, ratio=ratio_on("device"), wall_ratio=ratio_on("wall"), break_even=even)
