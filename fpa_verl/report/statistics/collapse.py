"""The collapse monitor: whether training on wrong trajectories takes probability from the right ones as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpa_verl.report.statistics.series import TAIL

# A change of less than so many standard errors is none.
CLEAR = 2.0


@dataclass(frozen=True)
class Trend:
    """The log-prob of a side's trajectories: mean over the first and the last tenth of the steps.

    Attributes:
        error: standard error of the change, from the spread between steps; NaN where a tenth is a single step.
    """

    early: float
    late: float
    error: float

    @property
    def change(self) -> float:
        return self.late - self.early

    @property
    def verdict(self) -> str:
        """It rises, falls or stays level; "?" where there are too few steps to tell."""
        if np.isnan(self.error):
            return "?"
        if abs(self.change) <= CLEAR * self.error:
            return "level"
        return "rises" if self.change > 0 else "falls"


def trend(by_step: dict[int, float]) -> Trend | None:
    """Beginning against end of a curve; None for an empty one."""
    if not by_step:
        return None
    values = np.array([by_step[step] for step in sorted(by_step)])
    count = max(1, len(values) // TAIL)
    ends = values[:count], values[-count:]
    variance = sum(end.var(ddof=1) / count for end in ends) if count > 1 else np.nan
    return Trend(float(ends[0].mean()), float(ends[1].mean()), float(np.sqrt(variance)))
