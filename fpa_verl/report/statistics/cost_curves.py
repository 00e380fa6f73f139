"""Methods side by side on the cost axes: what the tables and figures of `--compare wallclock` are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fpa_verl.report.statistics.bootstrap import LEVEL, TOLERANCE, Replicates, resample
from fpa_verl.report.statistics.curves import Curve, Floats, MethodCurve
from fpa_verl.report.statistics.rounds import Round, rounds_of
from fpa_verl.report.statistics.targets import TimeToTarget, times_to_targets
from fpa_verl.runs.run import Run
from fpa_verl.tables import TimeUnit, time_unit


@dataclass(frozen=True)
class CostCurves:
    """Methods on the cost axes, with their intervals and what it takes them to reach an accuracy.

    Attributes:
        curves: one a run.
        methods: one a method, over its seeds.
        against: the method that the others are measured by.
        targets_are: how the targets were chosen, in words.
    """

    data_source: str
    runs: list[Run]
    curves: list[Curve]
    methods: list[MethodCurve]
    targets: list[float]
    against: MethodCurve | None
    targets_are: str

    @property
    def base(self) -> float | None:
        """Accuracy of the base model, all its evaluations together; None where nobody evaluated it."""
        return base_accuracy(self.methods)

    @property
    def reached_by_base(self) -> list[float]:
        """The targets that it takes no training to reach."""
        base = self.base
        return [target for target in self.targets if base is not None and base >= target - TOLERANCE]

    @cached_property
    def replicates(self) -> list[Replicates]:
        return resample(self.methods)

    @cached_property
    def times(self) -> list[TimeToTarget]:
        return times_to_targets(self.methods, self.replicates, self.targets, self.against)

    @cached_property
    def rounds(self) -> dict[str, list[Round]]:
        """By name of the method, of those that went in rounds."""
        found = {curve.name: rounds_of(curve, self.data_source) for curve in self.methods}
        return {name: rounds for name, rounds in found.items() if rounds}

    @property
    def unit(self) -> TimeUnit:
        return time_unit(max(curve.points[-1].device_hours for curve in self.curves))

    def band(self, place: int) -> tuple[Floats, Floats]:
        """Interval of a method's accuracy at every evaluation, (E,) and (E,); NaN where replicates measured nothing."""
        if not len(self.replicates[place].accuracy):
            nothing = np.full(len(self.methods[place].steps), np.nan)
            return nothing, nothing
        lower, upper = np.quantile(self.replicates[place].accuracy, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return lower, upper

    @property
    def reuse_target(self) -> float | None:
        """The highest target that the method compared with and one with a dataset both reached."""
        told = [t.target for t in self.times if t.break_even and not np.isnan(t.break_even.value)]
        return max(told, default=None)


def base_accuracy(methods: list[MethodCurve]) -> float | None:
    """Accuracy of the base model that methods began with; None where none was evaluated.

    The highest, where there are several. Of runs that go on from others only where no run began with the base model:
    what is measured of it is put together among those (`with_pooled_base`).
    """
    measured = [(curve, curve.mean_accuracy()[0]) for curve in methods if curve.begins_at_base]
    known = [(curve, accuracy) for curve, accuracy in measured if not np.isnan(accuracy)]
    own = [accuracy for curve, accuracy in known if not curve.earlier]
    return float(max(own or [accuracy for _, accuracy in known])) if known else None
