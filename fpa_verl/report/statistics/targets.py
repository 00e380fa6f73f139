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

from fpa_verl.report.statistics.bootstrap import Estimate, Replicates, as_measured, estimate, share_of
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
            own = {axis: (measured[i].time_to(target, axis), replicates[i].time_to(target, axis)) for axis in axes}
            hours = {axis: estimate(value[0], drawn) for axis, (value, drawn) in own.items()}
            entry = TimeToTarget(curve.name, target, hours, max(0.0, hours["device"].value - curve.data["device"]))
            if other is not None and other != i:
                theirs = {a: (measured[other].time_to(target, a), replicates[other].time_to(target, a)) for a in axes}
                entry = _beside(entry, curve, own, theirs)
            found.append(entry)
    return found


def _beside(
    entry: TimeToTarget,
    curve: MethodCurve,
    own: dict[Axis, tuple[Floats, Floats]],
    theirs: dict[Axis, tuple[Floats, Floats]],
) -> TimeToTarget:
    """`entry` with its ratios and, for a method with a dataset, its break-even."""
    # Replicates are drawn together; where one of the two has none, there is nothing to pair.
    drawn_of_both = min(len(own["device"][1]), len(theirs["device"][1]))

    def pairs(axis: Axis) -> list[tuple[Floats, Floats]]:
        """(the other's, own) time as measured and in the replicates."""
        (value, drawn), (other, other_drawn) = own[axis], theirs[axis]
        return [(other, value), (other_drawn[:drawn_of_both], drawn[:drawn_of_both])]

    def ratio_on(axis: Axis) -> Estimate:
        value, drawn = (ratio(other, mine) for other, mine in pairs(axis))
        return replace(estimate(value[0], drawn), share=share_of(np.isfinite(drawn) & (drawn > 0)))

    even = None
    if not curve.generates and all(run.data_cost_is_known for run in curve.runs):
        data = curve.data["device"]
        value, drawn = (break_even(data, mine, other) for other, mine in pairs("device"))
        even = estimate(value[0], drawn)
    return replace(entry, ratio=ratio_on("device"), wall_ratio=ratio_on("wall"), break_even=even)
