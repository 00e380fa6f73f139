"""`--compare wallclock`: accuracy against device-hours (the paper's Figure 6), offline data's cost in front."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.report.comparison import (
    Comparison,
    evaluated,
    problem_sets,
    require_comparable,
    require_same_device_as_data,
)
from fpa_verl.report.ledger import (
    CHECKPOINTING,
    EVALUATION,
    GENERATION,
    LOG_PROBS,
    OTHER,
    PHASES,
    STARTUP,
    TRAINING,
    WEIGHT_SYNC,
)
from fpa_verl.report.runs import Point, Run
from fpa_verl.report.tables import Table, percent

SECONDS_PER_HOUR = 3600.0
NOT_REACHED = "-"
# Headers are short for the sake of narrow terminals; starred columns are no part of the cost.
PHASE_COLUMNS = {
    "gen.": GENERATION,
    "logp": LOG_PROBS,
    "train": TRAINING,
    "sync": WEIGHT_SYNC,
    "ckpt": CHECKPOINTING,
    "other": OTHER,
    "start*": STARTUP,
    "eval*": EVALUATION,
}


@dataclass(frozen=True)
class CurvePoint:
    """One evaluation on the cost axis.

    Attributes:
        device_hours: generation of the dataset included, start-up and evaluation left out.
        accuracy, standard_error: fractions of 1.
    """

    step: int
    device_hours: float
    accuracy: float
    standard_error: float


@dataclass(frozen=True)
class Curve:
    """One run on the cost axis; `data_device_hours` is what its dataset had cost before it began."""

    run: str
    recipe: str
    points: list[CurvePoint]
    data_device_hours: float = 0.0

    @property
    def best(self) -> CurvePoint:
        return max(self.points, key=lambda point: point.accuracy)

    def device_hours_to(self, target: float) -> float | None:
        """Cost of the first evaluation at or above `target`; None where it was never reached.

        Evaluations are not interpolated: what lies between two of them was not measured.
        """
        return next((point.device_hours for point in self.points if point.accuracy >= target), None)


@dataclass(frozen=True)
class WallClock(Comparison):
    """Everything the table, the figure and the JSON show."""

    data_source: str
    curves: list[Curve]
    runs: list[Run]
    targets: list[float]
    left_out: list[str]

    name = "wallclock"

    @property
    def unit(self) -> tuple[str, float]:
        """Device-hours, or device-minutes where everything is short; with what an hour is in it."""
        longest = max(curve.points[-1].device_hours for curve in self.curves)
        return ("device-hours", 1.0) if longest >= 1 else ("device-minutes", 60.0)

    def tables(self) -> list[Table]:
        return [self.accuracy_table(), self.cost_table(), self.summary_table()]

    def accuracy_table(self) -> Table:
        """Accuracy in per cent with its standard error, and the cost to each target."""
        unit, scale = self.unit

        def cost(hours: float | None) -> str:
            return NOT_REACHED if hours is None else f"{scale * hours:.2f}"

        rows = []
        for curve in self.curves:
            first, last = curve.points[0], curve.points[-1]
            rows.append(
                [
                    curve.run,
                    percent(first.accuracy) if first.step == 0 else "-",
                    f"{percent(last.accuracy)} ± {percent(last.standard_error)}",
                    percent(curve.best.accuracy),
                    cost(last.device_hours),
                    *(cost(curve.device_hours_to(target)) for target in self.targets),
                ]
            )
        device = self.runs[0].info["hardware"]["device"]
        caption = f"Accuracy on {self.data_source} (%), and {unit} to reach it ({NOT_REACHED}: not reached); {device}"
        targets = [f"to {100 * target:g}" for target in self.targets]
        return Table(caption, ["run", "base", "last ± s.e.", "best", "cost", *targets], rows)

    def cost_table(self) -> Table:
        """Device-time by phase."""
        unit, scale = self.unit
        rows = []
        for run in self.runs:
            data = run.dataset_device_seconds if run.data_cost_is_known else None
            spent = [data, *(run.phase_device_seconds.get(phase, 0.0) for phase in PHASE_COLUMNS.values())]
            rows.append([run.name, *("?" if s is None else f"{scale * s / SECONDS_PER_HOUR:.2f}" for s in spent)])
        caption = f"{unit.capitalize()} by phase; data: the dataset and its reference cache; *: no part of the cost"
        return Table(caption, ["run", "data", *PHASE_COLUMNS], rows)

    def summary_table(self) -> Table:
        """One line a recipe, over its runs (seeds)."""
        unit, scale = self.unit
        rows = []
        for recipe in dict.fromkeys(curve.recipe for curve in self.curves):
            curves = [curve for curve in self.curves if curve.recipe == recipe]
            last = [curve.points[-1].accuracy for curve in curves]
            cost = [curve.points[-1].device_hours for curve in curves]
            spread = f"{percent(min(last))} to {percent(max(last))}" if len(last) > 1 else "-"
            rows.append([recipe, str(len(curves)), percent(mean(last)), spread, f"{scale * mean(cost):.2f}"])
        return Table(f"By recipe (%; {unit})", ["recipe", "runs", "last, mean", "spread", "cost, mean"], rows)

    def notes(self) -> list[str]:
        imported = [
            f"{run.name}: its data was imported; what generating it cost is not known and not counted"
            for run in self.runs
            if not run.data_cost_is_known
        ]
        unscored = [
            f"{run.name}: {run.unscored} samples of its evaluations could not be generated or scored and are left out"
            for run in self.runs
            if run.unscored
        ]
        return [*self.left_out, *imported, *unscored]

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "data_source": self.data_source,
            "cost": "device-hours; dataset generation included, start-up and evaluation left out",
            "targets": self.targets,
            "runs": [_run_json(run, curve, self.targets) for run, curve in zip(self.runs, self.curves, strict=True)],
        }


def _run_json(run: Run, curve: Curve, targets: list[float]) -> dict[str, Any]:
    return {
        "run": run.name,
        "recipe": run.recipe,
        "fingerprints": run.info["fingerprints"],
        "evaluation": run.info["evaluation"],
        "dataset": run.info["dataset"],
        "hardware": run.info["hardware"],
        "versions": run.info["versions"],
        "device_seconds": {
            "dataset": run.dataset_device_seconds,
            **{phase: run.phase_device_seconds.get(phase, 0.0) for phase in PHASES},
        },
        "device_hours_to_target": {f"{target:.4f}": curve.device_hours_to(target) for target in targets},
        "curve": [vars(point) for point in curve.points],
    }


def curve_of(run: Run, data_source: str) -> Curve:
    """Accuracy of one run against its cost, the dataset's in front."""

    def place(point: Point) -> CurvePoint:
        # Step 0 is the base model, which the dataset has not improved: it stands at no cost.
        paid = run.dataset_device_seconds + point.device_seconds if point.step else 0.0
        return CurvePoint(point.step, paid / SECONDS_PER_HOUR, point.accuracy, point.standard_error)

    points = [place(point) for point in run.of_source(data_source)]
    return Curve(run.name, run.recipe, points, run.dataset_device_seconds / SECONDS_PER_HOUR)


def default_targets(curves: list[Curve]) -> list[float]:
    """Three accuracies between the base model and the best that any run reached, in full per cents."""
    start = max(curve.points[0].accuracy for curve in curves)
    best = max(curve.best.accuracy for curve in curves)
    fractions = (0.5, 0.75, 0.9)
    return sorted({round(start + share * (best - start), 2) for share in fractions})


def compare(runs: list[Run], data_source: str | None = None, targets: list[float] | None = None) -> WallClock:
    """Line up runs on one cost axis.

    Raises:
        DatasetError: no run, or a run without evaluations.
        MismatchError: runs that cannot be compared.
    """
    runs, left_out = evaluated(runs)
    require_comparable(runs)
    for run in runs:
        require_same_device_as_data(run)
    source = problem_sets(runs, data_source)[0]
    curves = [curve_of(run, source) for run in runs]
    for run, curve in zip(runs, curves, strict=True):
        if not curve.points:
            raise DatasetError(f"{run.folder} has no evaluation on {source} yet: wait for one, or leave the run out")
    return WallClock(source, curves, runs, targets or default_targets(curves), left_out)
