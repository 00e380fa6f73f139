"""`--compare dynamics`: what training does to right and wrong trajectories (the paper's Figures 2 to 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.report.comparable import require_runs
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.comparisons.foresight import foreseen, foresight_tables
from fpa_verl.report.comparisons.mixing import mixed, mixing_table
from fpa_verl.report.statistics.collapse import CLEAR, Trend, trend
from fpa_verl.report.statistics.series import Series, read_series
from fpa_verl.runs.metrics import GRADIENT_NORM, dynamics_metric
from fpa_verl.runs.run import Run
from fpa_verl.tables import Table

# Metric to panel title; one panel for right and wrong together, unless the metric is among `RIGHT_ALONE`.
PANELS = {
    "log_prob": "log-prob of right trajectories",
    "log_prob_change": "log-prob change against the reference",
    "policy_weight": "policy weight",
    "future_weight": "future-policy weight",
    "weight_ratio": "future-policy over policy weight",
    "low_policy_weight": "share of policy weights under 0.2",
    "low_future_weight": "share of future-policy weights under 0.2",
    "gradient_norm": "gradient norm of each side",
}
# The wrong ones fall so far that a fall of the right ones could not be seen beside them.
RIGHT_ALONE = ("log_prob",)


@dataclass(frozen=True)
class Dynamics(Comparison):
    """The series of every run that logged some."""

    runs: list[Run]
    series: list[Series]

    name = "dynamics"
    title = "Training dynamics"

    def tables(self) -> list[Table]:
        watched = [self.collapse_table()] if any(self.trends()) else []
        of_two, ahead = mixed(self.series), foreseen(self.series)
        return [
            self.tail_table(),
            *watched,
            *([mixing_table(of_two)] if of_two else []),
            *(foresight_tables(ahead, self.runs) if ahead else []),
        ]

    def tail_table(self) -> Table:
        """Where every run ended up."""
        columns = {
            "Δ right": dynamics_metric("right", "log_prob_change"),
            "Δ wrong": dynamics_metric("wrong", "log_prob_change"),
            "right": dynamics_metric("right", "policy_weight"),
            "wrong": dynamics_metric("wrong", "policy_weight"),
            "ratio": dynamics_metric("wrong", "weight_ratio"),
            "grad": GRADIENT_NORM,
        }
        rows = []
        for series in self.series:
            cells = [series.tail(name) for name in columns.values()]
            rows.append([series.run.name, *("-" if cell is None else f"{cell:.2f}" for cell in cells)])
        caption = (
            "Training dynamics, mean over the last tenth of the steps: change of the log-prob against the reference, "
            "policy weights, future-policy over policy weight of wrong trajectories, gradient norm"
        )
        return Table(caption, ["run", *columns], rows)

    def trends(self) -> list[Trend | None]:
        """The log-prob of right trajectories, run by run."""
        return [trend(series.get("right", "log_prob")) for series in self.series]

    def collapse_table(self) -> Table:
        """Does the log-prob of right trajectories fall, and how far that of wrong ones."""
        rows = []
        for series, right in zip(self.series, self.trends(), strict=True):
            wrong = trend(series.get("wrong", "log_prob"))
            if right:
                numbers = [right.early, right.late, right.change, right.error, wrong.change if wrong else None]
                cells = ["-" if value is None or value != value else f"{value:.2f}" for value in numbers]
                rows.append([series.run.name, *cells, right.verdict])
        caption = (
            "Collapse monitor: log-prob of right trajectories over the first and last tenth of the steps, its change "
            f"and standard error (a change below {CLEAR:g} of them is none), and the change of wrong ones"
        )
        return Table(caption, ["run", "first", "last", "change", "s.e.", "wrong", "right"], rows)

    def notes(self) -> list[str]:
        falling = [
            one.run.name
            for one, right in zip(self.series, self.trends(), strict=True)
            if right and right.verdict == "falls"
        ]
        collapse = [f"Right trajectories lose probability: {', '.join(falling)}"] if falling else []
        without = [series.run.name for series in self.series if not series.get("right", "log_prob_change")]
        if not without:
            return collapse
        return [
            *collapse,
            f"No reference at hand, so no log-prob change: {', '.join(without)}. "
            "actor_rollout_ref.actor.policy_loss.track_reference=true holds it, for one forward a step more",
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
    require_runs(runs)
    series = [one for one in map(read_series, runs) if one.has_dynamics]
    if not series:
        names = ", ".join(str(run.folder) for run in runs)
        raise DatasetError(f"logged no training dynamics: {names}; offline recipes do")
    return Dynamics(runs, series)
