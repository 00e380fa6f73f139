"""Metrics of a run by step, and their mean over runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
import pandas as pd

from fpa_verl.runs.metrics import DYNAMICS, FORESIGHT, GRADIENT_NORM, MIXING, dynamics_metric
from fpa_verl.runs.run import Run

# The beginning and the end of a run are this share of its steps each.
TAIL = 10
# Points of a curve: a longer one is shown as means over equal stretches of steps.
POINTS = 300


@dataclass(frozen=True)
class Series:
    """Metrics of one run by step: names as in its metrics files, missing where a run has none."""

    run: Run
    steps: list[int]
    values: dict[str, dict[int, float]]

    @property
    def has_dynamics(self) -> bool:
        return any(name.startswith(DYNAMICS) for name in self.values)

    def get(self, side: str, metric: str) -> dict[int, float]:
        return self.values.get(dynamics_metric(side, metric), {})

    def tail(self, name: str) -> float | None:
        """Mean over the last tenth of the steps."""
        last = self.steps[-max(1, len(self.steps) // TAIL) :]
        found = [self.values[name][step] for step in last if step in self.values.get(name, {})]
        return mean(found) if found else None


def read_series(run: Run) -> Series:
    """All attempts of a run; a step that was done again counts as it was done last."""
    values = {
        name: by_step
        for name, by_step in run.metrics.items()
        if name.startswith((DYNAMICS, MIXING, FORESIGHT)) or name == GRADIENT_NORM
    }
    return Series(run, sorted({step for by_step in values.values() for step in by_step}), values)


def mean_curve(seeds: Sequence[Mapping[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and means over the seeds that have a step, thinned to at most `POINTS` means over equal stretches."""
    curve = pd.concat([pd.Series(one, dtype=float) for one in seeds], axis=1).mean(axis=1).sort_index()
    if len(curve) > POINTS:
        stretch = np.arange(len(curve)) * POINTS // len(curve)
        curve = curve.groupby(stretch).mean().set_axis(curve.index.to_series().groupby(stretch).mean())
    return curve.index.to_numpy(), curve.to_numpy()
