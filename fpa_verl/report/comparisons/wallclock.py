"""`--compare wallclock`: accuracy against device-hours and wall-clock hours (the paper's Figure 6).

The dataset's generation stands in front of the offline curves; start-up and evaluation are shown apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fpa_verl.errors import DatasetError
from fpa_verl.report.comparable import (
    evaluated,
    notes_on,
    problem_sets,
    require_comparable,
    require_same_device_as_data,
    with_whole_cost,
)
from fpa_verl.report.comparison import Comparison, Headline
from fpa_verl.report.comparisons import wallclock_tables
from fpa_verl.report.comparisons.rounds import rounds_json, rounds_notes
from fpa_verl.report.comparisons.wallclock_headline import headline
from fpa_verl.report.statistics.arms import arms_of
from fpa_verl.report.statistics.base import base_notes, pooled_points
from fpa_verl.report.statistics.bootstrap import LEVEL, REPLICATES, SEED, TOLERANCE
from fpa_verl.report.statistics.cost_curves import CostCurves, base_accuracy
from fpa_verl.report.statistics.curves import Curve, MethodCurve, curve_of, method_curves, run_before
from fpa_verl.report.statistics.targets import TimeToTarget, cost_per_run
from fpa_verl.runs.inputs import Input
from fpa_verl.runs.ledger import PHASES
from fpa_verl.runs.run import Run
from fpa_verl.tables import Table, percent

# How many runs share a dataset, in the view of reused data.
REUSES = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class WallClock(CostCurves, Comparison):
    """What the tables, the figures and the JSON show of methods on the cost axes."""

    left_out: list[str]

    name = "wallclock"
    title = "Accuracy against cost"

    def headline(self) -> Headline:
        return headline(self)

    def tables(self) -> list[Table]:
        return wallclock_tables.tables(self)

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
        hidden = [
            f"{run.name}: what it goes on from is not drawn, for {why}"
            for run in self.runs
            if isinstance(why := run_before(run, self.data_source), str)
        ]
        base = base_notes(self.runs, [self.data_source])
        found = [*self.left_out, *rounds_notes(self), *base, *self._target_notes(), *hidden, *imported, *unscored]
        return [*found, *notes_on(self.runs), *self._statistics_notes()]

    def _target_notes(self) -> list[str]:
        """On targets that say nothing of training."""
        if not self.targets:
            return [f"No targets: no method got above the base model ({percent(self.base or np.nan)})"]
        if not (reached := self.reached_by_base):
            return []
        targets = ", ".join(f"{100 * target:g}" for target in reached)
        return [
            f"Target {targets}: reached by the base model itself ({percent(self.base or np.nan)}), at no cost: no "
            "method has a ratio or a least N there"
        ]

    def _statistics_notes(self) -> list[str]:
        notes = []
        for curve in self.methods:
            evaluations = max(len(run.of_source(self.data_source)) for run in curve.runs)
            by_all = len(curve.steps) - curve.earlier
            if by_all < evaluations:
                notes.append(f"{curve.name}: {by_all} of {evaluations} evaluations were made by all its seeds")
        return notes

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "data_source": self.data_source,
            "cost": "device-hours; dataset generation included, start-up and evaluation left out",
            "base": self._base_json(),
            "targets": self.targets,
            "targets_reached_by_base": self.reached_by_base,
            "bootstrap": {"replicates": REPLICATES, "seed": SEED, "level": LEVEL, "over": ["problems", "seeds"]},
            "against": self.against.name if self.against else None,
            "methods": [self._method_json(place, curve) for place, curve in enumerate(self.methods)],
            "runs": [_run_json(run, curve, self.targets) for run, curve in zip(self.runs, self.curves, strict=True)],
        }

    def _base_json(self) -> dict[str, Any] | None:
        """The base model's accuracy, and the evaluations that it comes from where there are several."""
        measured = [list(point.pooled) for point in pooled_points(self.runs, [self.data_source])]
        return None if self.base is None else {"accuracy": self.base, "measured": measured[0] if measured else None}

    def _method_json(self, place: int, curve: MethodCurve) -> dict[str, Any]:
        lower, upper = self.band(place)
        of_earlier = np.arange(len(curve.steps)) < curve.earlier
        hours = (curve.mean_hours("device"), curve.mean_hours("wall"))
        columns = (curve.steps, of_earlier, *hours, curve.mean_accuracy())
        names = ("step", "of_earlier_run", "device_hours", "wall_hours", "accuracy", "low", "high")
        return {
            "method": curve.name,
            "runs": [run.name for run in curve.runs],
            "dataset_hours": curve.data,
            **({"rounds": rounds} if (rounds := rounds_json(self, curve.name)) else {}),
            "curve": [
                dict(zip(names, (column.item() for column in point), strict=True))
                for point in zip(*columns, lower, upper, strict=True)
            ],
            "targets": [_time_json(time, curve) for time in self.times if time.method == curve.name],
        }


def _time_json(time: TimeToTarget, curve: MethodCurve) -> dict[str, Any]:
    content: dict[str, Any] = {"target": time.target}
    content |= {f"{axis}_hours": value.as_json() for axis, value in time.hours.items()}
    if time.ratio and time.wall_ratio:
        content |= {"ratio": time.ratio.as_json(), "wall_ratio": time.wall_ratio.as_json()}
    if time.break_even:
        content["break_even_runs"] = {**time.break_even.as_json(), "never": bool(np.isinf(time.break_even.value))}
        if np.isfinite(time.run_hours):
            costs = cost_per_run(curve.data["device"], time.run_hours, np.array(REUSES, dtype=float))
            content["device_hours_a_run"] = dict(zip(map(str, REUSES), costs.tolist(), strict=True))
    return content


def _run_json(run: Run, curve: Curve, targets: list[float]) -> dict[str, Any]:
    return {
        "run": run.name,
        "recipe": run.recipe,
        "method": run.method,
        "fingerprints": run.info["fingerprints"],
        "evaluation": run.info["evaluation"],
        "dataset": _dataset_json(run.dataset) if run.dataset else None,
        "hardware": run.info["hardware"],
        "versions": run.info["versions"],
        "device_seconds": {
            "dataset": run.dataset_device_seconds,
            "earlier_runs": run.inputs_cost.device_seconds - run.dataset_device_seconds,
            **{phase: run.phase_device_seconds.get(phase, None if run.log else 0.0) for phase in PHASES},
        },
        "device_hours_to_target": {f"{target:.4f}": curve.device_hours_to(target) for target in targets},
        "curve": [vars(point) for point in curve.points],
    }


def _dataset_json(dataset: Input) -> dict[str, Any]:
    return {
        "folder": dataset.folder,
        "fingerprint": dataset.fingerprint,
        "device_seconds": dataset.device_seconds,
        "cost": dataset.cost,
        **dataset.about,
    }


# Where targets lie between the base model and the best that any method reached.
FRACTIONS = (0.5, 0.75, 0.9)


def default_targets(methods: list[MethodCurve]) -> list[float]:
    """Three accuracies above the base model and up to the best that any method reached, in full per cents.

    Fewer where they coincide, in tenths of a per cent where no full one lies between; none where no method got above
    the base model.
    """
    base = base_accuracy(methods)
    start = float(np.nanmin([curve.mean_accuracy()[0] for curve in methods])) if base is None else base
    best = float(np.nanmax([np.nanmax(curve.mean_accuracy()) for curve in methods]))
    for digits in (2, 3):
        rounded = {round(start + share * (best - start), digits) for share in FRACTIONS}
        if found := sorted(one for one in rounded if start + TOLERANCE < one <= best + TOLERANCE):
            return found
    return []


def _targets_are(methods: list[MethodCurve], asked: list[float] | None) -> str:
    """How the targets were chosen, and how to choose others."""
    if asked:
        return "Targets: accuracies on the way, as asked for (--target)"
    base = base_accuracy(methods)
    start = "the lowest that any began with" if base is None else f"the base model ({percent(base)})"
    best = np.nanmax([np.nanmax(curve.mean_accuracy()) for curve in methods])
    return (
        f"Targets: accuracies on the way from {start} to the best that any method reached ({percent(best)}), at a "
        "half, three quarters and nine tenths of it, rounded; --target 0.6 sets one"
    )


def _against(methods: list[MethodCurve], name: str | None) -> MethodCurve | None:
    """The method of that name; by default the first that generates its own data, else the first of several.

    Raises:
        DatasetError: no method has that name.
    """
    if name is None:
        return next((curve for curve in methods if curve.generates), methods[0] if len(methods) > 1 else None)
    for curve in methods:
        if curve.name == name:
            return curve
    raise DatasetError(f"no method '{name}': choose --against from {', '.join(curve.name for curve in methods)}")


def compare(
    runs: list[Run], data_source: str | None = None, targets: list[float] | None = None, against: str | None = None
) -> WallClock:
    """Line up runs on the cost axes, seeds of a method together.

    Raises:
        DatasetError: no run, a run without evaluations, or no method of the name `against`.
        MismatchError: runs that cannot be compared.
    """
    runs, not_evaluated = evaluated(runs)
    runs, cost_unknown = with_whole_cost(runs)
    require_comparable(runs)
    for run in runs:
        require_same_device_as_data(run)
    source = problem_sets(runs, data_source)[0]
    for run in runs:
        if not run.of_source(source):
            raise DatasetError(f"{run.folder} has no evaluation on {source} yet: wait for one, or leave the run out")
    methods = method_curves(arms_of(runs), source)
    return WallClock(
        source,
        runs,
        curves=[curve_of(run, source) for run in runs],
        methods=methods,
        targets=targets or default_targets(methods),
        against=_against(methods, against),
        targets_are=_targets_are(methods, targets),
        left_out=not_evaluated + cost_unknown,
    )
