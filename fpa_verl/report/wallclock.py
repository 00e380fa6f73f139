"""`--compare wallclock`: accuracy against device-hours and wall-clock hours (the paper's Figure 6).

The dataset's generation stands in front of the offline curves; start-up and evaluation are shown apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fpa_verl.errors import DatasetError
from fpa_verl.report.bootstrap import LEVEL, REPLICATES, SEED, Estimate, Replicates, resample
from fpa_verl.report.comparison import (
    Comparison,
    budget_notes,
    evaluated,
    problem_sets,
    require_comparable,
    require_same_device_as_data,
)
from fpa_verl.report.configurations import configurations
from fpa_verl.report.curves import SECONDS_PER_HOUR, Curve, Floats, MethodCurve, curve_of, method_curves
from fpa_verl.report.ledger import NOT_COST, PHASES
from fpa_verl.report.runs import Run
from fpa_verl.report.tables import Table, percent
from fpa_verl.report.targets import TimeToTarget, cost_per_run, times_to_targets

NOT_REACHED = "-"
NEVER = "never"
INFINITE = "∞"
# How many runs share a dataset, in the view of reused data.
REUSES = (1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class WallClock(Comparison):
    """Everything the tables, the figures and the JSON show.

    Attributes:
        curves: one a run.
        methods: one a method, over its seeds.
        against: the method that the others are measured by.
    """

    data_source: str
    runs: list[Run]
    curves: list[Curve]
    methods: list[MethodCurve]
    targets: list[float]
    against: MethodCurve | None
    left_out: list[str]

    name = "wallclock"
    title = "Accuracy against cost"

    @cached_property
    def replicates(self) -> list[Replicates]:
        return resample(self.methods)

    @cached_property
    def times(self) -> list[TimeToTarget]:
        return times_to_targets(self.methods, self.replicates, self.targets, self.against)

    @property
    def unit(self) -> tuple[str, str, float]:
        """Hours, or minutes where everything is short: in words, short, and what an hour is in it."""
        longest = max(curve.points[-1].device_hours for curve in self.curves)
        return ("hours", "h", 1.0) if longest >= 1 else ("minutes", "min", 60.0)

    def band(self, place: int) -> tuple[Floats, Floats]:
        """Interval of a method's accuracy at every evaluation, (E,) and (E,)."""
        lower, upper = np.nanquantile(self.replicates[place].accuracy, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return lower, upper

    @property
    def reuse_target(self) -> float | None:
        """The highest target that the method compared with and one with a dataset both reached."""
        told = [t.target for t in self.times if t.break_even and not np.isnan(t.break_even.value)]
        return max(told, default=None)

    # ---- tables ---------------------------------------------------------------------------------

    def tables(self) -> list[Table]:
        beside = [self.ratio_table()] if self.against and len(self.methods) > 1 else []
        reused = [self.reuse_table()] if any(time.break_even for time in self.times) else []
        return [self.method_table(), self.target_table(), *beside, *reused, self.run_table()]

    def method_table(self) -> Table:
        """One line a method, over its seeds."""
        unit, short, scale = self.unit
        rows = []
        for place, curve in enumerate(self.methods):
            low, high = (percent(end[-1]) for end in self.band(place))
            known = all(run.data_cost_is_known for run in curve.runs)
            apart = np.mean([sum(run.phase_device_seconds.get(p, 0.0) for p in NOT_COST) for run in curve.runs])
            cells = [
                str(len(curve.runs)),
                percent(curve.mean_accuracy()[-1]),
                f"{low} to {high}",
                *(f"{scale * curve.mean_hours(axis)[-1]:.2f}" for axis in ("device", "wall")),
                f"{scale * curve.data['device']:.2f}" if known else "?",
                f"{scale * apart / SECONDS_PER_HOUR:.2f}",
            ]
            rows.append([curve.name, *cells])
        caption = (
            f"Accuracy on {self.data_source} (%) at the last evaluation, {LEVEL:.0%} interval over problems and seeds "
            f"(of one seed: over problems alone); its cost in device-{unit} and {unit} of wall-clock, the dataset's "
            "part of the former, and apart from it start-up and evaluation"
        )
        header = ["method", "seeds", "accuracy", "interval", f"device-{short}", short, "dataset", "apart"]
        return Table(caption, header, rows)

    def target_table(self) -> Table:
        """One line a target and method."""
        unit, short, scale = self.unit
        rows = []
        for time in self.times:
            device, wall = time.hours["device"], time.hours["wall"]
            cells = [_shown(device.value, scale), _interval(device, scale), f"{device.share:.0%}"]
            rows.append([time.method, f"{100 * time.target:g}", *cells, _shown(wall.value, scale)])
        caption = (
            f"Device-{unit} to reach an accuracy ({NOT_REACHED}: not reached), {LEVEL:.0%} interval, share of "
            f"{REPLICATES:,} replicates that reach it; {unit} of wall-clock"
        )
        return Table(caption, ["method", "target", f"device-{short}", "interval", "reached", short], rows)

    def ratio_table(self) -> Table:
        """One line a target and method other than the one compared with."""
        assert self.against is not None
        rows = []
        for time in self.times:
            if time.ratio and time.wall_ratio:
                device = [_ratio(time.ratio), _ratio_interval(time.ratio), f"{time.ratio.share:.0%}"]
                cells = [*device, _ratio(time.wall_ratio), _ratio_interval(time.wall_ratio)]
                rows.append([time.method, f"{100 * time.target:g}", *cells])
        caption = (
            f"How many times the cost of the method {self.against.name} took to the same target, {LEVEL:.0%} interval "
            f"(0: the method alone fell short; {INFINITE}: {self.against.name} alone), share of replicates in which "
            "both reached it"
        )
        header = ["method", "target", "device-time", "interval", "both", "wall-clock", "interval"]
        return Table(caption, header, rows)

    def reuse_table(self) -> Table:
        """What sharing a dataset makes of its cost, for every method with one and every target."""
        assert self.against is not None
        unit, _, scale = self.unit
        shown = (1, 10)
        rows = []
        for time in self.times:
            if time.break_even:
                data = self._curve(time.method).data["device"]
                costs = cost_per_run(data, time.run_hours, np.array(shown, dtype=float))
                even = time.break_even
                cells = [*(_shown(cost, scale) for cost in costs), _runs(even.value), _runs_interval(even)]
                rows.append([time.method, f"{100 * time.target:g}", *cells])
        caption = (
            f"One dataset for N runs: device-{unit} a run to the target, and the least N at which a run is as cheap as "
            f"one of {self.against.name} ({LEVEL:.0%} interval where both reached the target)"
        )
        return Table(caption, ["method", "target", *(f"N = {n}" for n in shown), "least N", "interval"], rows)

    def run_table(self) -> Table:
        """One line a run: accuracy in per cent with its standard error, and the cost to each target."""
        unit, _, scale = self.unit
        rows = []
        for curve in self.curves:
            first, last = curve.points[0], curve.points[-1]
            costs = [last.device_hours, *(curve.device_hours_to(target) for target in self.targets)]
            cells = [_shown(np.inf if cost is None else cost, scale) for cost in costs]
            base = percent(first.accuracy) if first.step == 0 else "-"
            reached = f"{percent(last.accuracy)} ± {percent(last.standard_error)}"
            rows.append([curve.run, base, reached, percent(curve.best.accuracy), *cells])
        device = self.runs[0].info["hardware"]["device"]
        caption = (
            f"Runs: accuracy on {self.data_source} (%), and device-{unit} to reach it ({NOT_REACHED}: not reached); "
            f"{device}"
        )
        targets = [f"to {100 * target:g}" for target in self.targets]
        return Table(caption, ["run", "base", "last ± s.e.", "best", "cost", *targets], rows)

    def _curve(self, method: str) -> MethodCurve:
        return next(curve for curve in self.methods if curve.name == method)

    # ---- notes and JSON -------------------------------------------------------------------------

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
        return [*self.left_out, *imported, *unscored, *budget_notes(self.runs), *self._statistics_notes()]

    def _statistics_notes(self) -> list[str]:
        notes = []
        for curve in self.methods:
            evaluations = max(len(run.of_source(self.data_source)) for run in curve.runs)
            if len(curve.steps) < evaluations:
                notes.append(
                    f"{curve.name}: {len(curve.steps)} of {evaluations} evaluations were made by all its seeds"
                )
        return notes

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "data_source": self.data_source,
            "cost": "device-hours; dataset generation included, start-up and evaluation left out",
            "targets": self.targets,
            "bootstrap": {"replicates": REPLICATES, "seed": SEED, "level": LEVEL, "over": ["problems", "seeds"]},
            "against": self.against.name if self.against else None,
            "methods": [self._method_json(place, curve) for place, curve in enumerate(self.methods)],
            "runs": [_run_json(run, curve, self.targets) for run, curve in zip(self.runs, self.curves, strict=True)],
        }

    def _method_json(self, place: int, curve: MethodCurve) -> dict[str, Any]:
        lower, upper = self.band(place)
        columns = (curve.steps, curve.mean_hours("device"), curve.mean_hours("wall"), curve.mean_accuracy())
        names = ("step", "device_hours", "wall_hours", "accuracy", "low", "high")
        return {
            "method": curve.name,
            "runs": [run.name for run in curve.runs],
            "dataset_hours": curve.data,
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


def _shown(hours: float, scale: float) -> str:
    return f"{scale * hours:.2f}" if np.isfinite(hours) else NOT_REACHED


def _interval(one: Estimate, scale: float) -> str:
    return f"{_shown(one.low, scale)} to {_shown(one.high, scale)}"


def _ratio(one: Estimate) -> str:
    """0 and infinity are no ratios: one of the two fell short of the target."""
    return f"{one.value:.2f}" if one.value > 0 and np.isfinite(one.value) else NOT_REACHED


def _ratio_interval(one: Estimate) -> str:
    if np.isnan(one.low):
        return NOT_REACHED
    return " to ".join(INFINITE if np.isinf(end) else f"{end:.2f}" if end else "0" for end in (one.low, one.high))


def _runs(value: float) -> str:
    return NOT_REACHED if np.isnan(value) else NEVER if np.isinf(value) else f"{value:.0f}"


def _runs_interval(one: Estimate) -> str:
    return NOT_REACHED if np.isnan(one.value) else f"{_runs(one.low)} to {_runs(one.high)}"


def default_targets(methods: list[MethodCurve]) -> list[float]:
    """Three accuracies between the base model and the best that any method reached, in full per cents."""
    start = float(np.nanmax([curve.mean_accuracy()[0] for curve in methods]))
    best = float(np.nanmax([np.nanmax(curve.mean_accuracy()) for curve in methods]))
    fractions = (0.5, 0.75, 0.9)
    return sorted({round(start + share * (best - start), 2) for share in fractions})


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
    runs, left_out = evaluated(runs)
    require_comparable(runs)
    for run in runs:
        require_same_device_as_data(run)
    source = problem_sets(runs, data_source)[0]
    for run in runs:
        if not run.of_source(source):
            raise DatasetError(f"{run.folder} has no evaluation on {source} yet: wait for one, or leave the run out")
    methods = method_curves(configurations(runs), source)
    curves = [curve_of(run, source) for run in runs]
    chosen = targets or default_targets(methods)
    return WallClock(source, runs, curves, methods, chosen, _against(methods, against), left_out)
