"""`--compare dynamics`: what training does to right and wrong trajectories (the paper's Figures 2 to 4)."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.metrics import DYNAMICS, GRADIENT_NORM, read_metrics
from fpa_verl.report.runs import Run
from fpa_verl.report.tables import Table

SIDES = ("right", "wrong")
# Metric to panel title; one panel for right and wrong together.
PANELS = {
    "log_prob": "log-prob",
    "log_prob_change": "log-prob change against the reference",
    "policy_weight": "policy weight",
    "future_weight": "future-policy weight",
    "weight_ratio": "future-policy over policy weight",
    "low_policy_weight": "share of policy weights under 0.2",
    "low_future_weight": "share of future-policy weights under 0.2",
}
# The table shows the mean over the last tenth of the steps.
TAIL = 10


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
        return self.values.get(f"dynamics/{side}/{metric}", {})

    def tail(self, name: str) -> float | None:
        """Mean over the last tenth of the steps."""
        last = self.steps[-max(1, len(self.steps) // TAIL) :]
        found = [self.values[name][step] for step in last if step in self.values.get(name, {})]
        return mean(found) if found else None


def read_series(run: Run) -> Series:
    """All attempts of a run; a step that was done again counts as it was done last."""
    metrics = read_metrics(run.folder)
    values = {name: by_step for name, by_step in metrics.items() if name.startswith(DYNAMICS) or name == GRADIENT_NORM}
    return Series(run, sorted({step for by_step in values.values() for step in by_step}), values)


@dataclass(frozen=True)
class Dynamics(Comparison):
    """The series of every run that logged some."""

    runs: list[Run]
    series: list[Series]

    name = "dynamics"
    title = "Training dynamics"

    def tables(self) -> list[Table]:
        columns = {
            "change right": "dynamics/right/log_prob_change",
            "wrong": "dynamics/wrong/log_prob_change",
            "weight right": "dynamics/right/policy_weight",
            "wrong ": "dynamics/wrong/policy_weight",
            "ratio wrong": "dynamics/wrong/weight_ratio",
            "grad": GRADIENT_NORM,
        }
        rows = []
        for series in self.series:
            cells = [series.tail(name) for name in columns.values()]
            rows.append([series.run.name, *("-" if cell is None else f"{cell:.2f}" for cell in cells)])
        caption = "Training dynamics, mean over the last tenth of the steps (change: log-prob against the reference)"
        return [Table(caption, ["run", *(name.strip() for name in columns)], rows)]

    def notes(self) -> list[str]:
        without = [series.run.name for series in self.series if not series.get("right", "log_prob_change")]
        if not without:
            return []
        return [
            f"No reference at hand, so no log-prob change: {', '.join(without)}. "
            "actor_rollout_ref.actor.policy_loss.track_reference=true holds it, for one forward a step more"
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "runs": [
                {"run": series.run.name, "recipe": series.run.recipe, "metrics": series.values}
                for series in self.series
            ],
        }


def compare(runs: list[Run]) -> Dynamics:
    """The training dynamics of every run that has some.

    Raises:
        DatasetError: no run, or none with training dynamics.
    """
    if not runs:
        raise DatasetError("no runs: give run directories, or a folder that holds some")
    series = [one for one in map(read_series, runs) if one.has_dynamics]
    if not series:
        names = ", ".join(str(run.folder) for run in runs)
        raise DatasetError(f"logged no training dynamics: {names}; offline recipes do")
    return Dynamics(runs, series)
