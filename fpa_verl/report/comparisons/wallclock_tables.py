"""The tables of `--compare wallclock`."""

from __future__ import annotations

import numpy as np

from fpa_verl.report.comparisons.rounds import rounds_tables
from fpa_verl.report.statistics.bootstrap import LEVEL, REPLICATES, Estimate
from fpa_verl.report.statistics.cost_curves import CostCurves
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR, MethodCurve
from fpa_verl.report.statistics.targets import cost_per_run
from fpa_verl.runs.ledger import NOT_COST, STARTUP
from fpa_verl.tables import NEVER, UNKNOWN, Table, percent

NOT_REACHED = "-"
INFINITE = "∞"
AT_START = "base"


def tables(comparison: CostCurves) -> list[Table]:
    """Methods, rounds, targets, ratios and reused data where there is something to compare with, runs."""
    first = [method_table(comparison), *rounds_tables(comparison)]
    beside = [ratio_table(comparison)] if comparison.against and len(comparison.methods) > 1 else []
    reused = [reuse_table(comparison)] if any(time.break_even for time in comparison.times) else []
    if not comparison.targets:
        return [*first, run_table(comparison)]
    return [*first, target_table(comparison), *beside, *reused, run_table(comparison)]


def method_table(comparison: CostCurves) -> Table:
    """One line a method, over its seeds."""
    unit, short, scale = comparison.unit
    rows = []
    for place, curve in enumerate(comparison.methods):
        low, high = (end[-1] for end in comparison.band(place))
        known = all(run.data_cost_is_known for run in curve.runs)
        apart = np.mean([sum(run.phase_device_seconds.get(p, 0.0) for p in NOT_COST) for run in curve.runs])
        apart_known = all(STARTUP in run.phase_device_seconds for run in curve.runs)
        cells = [
            str(len(curve.runs)),
            percent(curve.mean_accuracy()[-1]),
            UNKNOWN if curve.logged is not None else f"{percent(low)} to {percent(high)}",
            *(f"{scale * curve.mean_hours(axis)[-1]:.2f}" for axis in ("device", "wall")),
            f"{scale * curve.data['device']:.2f}" if known else UNKNOWN,
            f"{scale * apart / SECONDS_PER_HOUR:.2f}" if apart_known else UNKNOWN,
        ]
        rows.append([curve.name, *cells])
    caption = (
        f"Accuracy on {comparison.data_source} (%) at the last evaluation, {LEVEL:.0%} interval over problems and "
        f"seeds (of one seed: over problems alone); its cost in device-{unit} and {unit} of wall-clock, the dataset's "
        "part of the former, and apart from it start-up and evaluation"
    )
    if any(UNKNOWN in row for row in rows):
        caption += f"; {UNKNOWN}: not recorded"
    header = ["method", "seeds", "accuracy", "interval", f"device-{short}", short, "dataset", "apart"]
    return Table(caption, header, rows)


def target_table(comparison: CostCurves) -> Table:
    """One line a target and method."""
    unit, short, scale = comparison.unit
    rows = []
    for time in comparison.times:
        device, wall = time.hours["device"], time.hours["wall"]
        cells = [_reached(device.value, scale), _interval(device, scale), _share(device)]
        rows.append([time.method, f"{100 * time.target:g}", *cells, _reached(wall.value, scale)])
    caption = (
        f"{comparison.targets_are}. Device-{unit} until a method's mean over its seeds was first measured at a target "
        f"or above ({NOT_REACHED}: not reached{_base_legend(comparison)}), {LEVEL:.0%} interval, share of "
        f"{REPLICATES:,} replicates that reach it; {unit} of wall-clock"
    )
    return Table(caption, ["method", "target", f"device-{short}", "interval", "reached", short], rows)


def ratio_table(comparison: CostCurves) -> Table:
    """One line a target and method other than the one compared with."""
    assert comparison.against is not None
    rows = []
    for time in comparison.times:
        if time.ratio and time.wall_ratio:
            device = [_ratio(time.ratio), _ratio_interval(time.ratio), _share(time.ratio)]
            cells = [*device, _ratio(time.wall_ratio), _ratio_interval(time.wall_ratio)]
            rows.append([time.method, f"{100 * time.target:g}", *cells])
    caption = (
        f"How many times the cost of the method {comparison.against.name} took to the same target, {LEVEL:.0%} "
        f"interval (0: the method may fall short; {INFINITE}: {comparison.against.name} may; with 1 inside it is not "
        "shown which is cheaper), share of replicates in which both reached it"
    )
    header = ["method", "target", "device-time", "interval", "both", "wall-clock", "interval"]
    return Table(caption, header, rows)


def reuse_table(comparison: CostCurves) -> Table:
    """What sharing a dataset makes of its cost, for every method with one and every target."""
    assert comparison.against is not None
    unit, _, scale = comparison.unit
    shown = (1, 10)
    rows = []
    for time in comparison.times:
        if time.break_even:
            data = _curve_of(comparison, time.method).data["device"]
            costs = cost_per_run(data, time.run_hours, np.array(shown, dtype=float))
            even = time.break_even
            cells = [*(_shown(cost, scale) for cost in costs), _runs(even.value), _runs_interval(even)]
            rows.append([time.method, f"{100 * time.target:g}", *cells])
    caption = (
        f"One dataset for N runs: device-{unit} a run to the target, and the least N at which a run is as cheap as "
        f"one of {comparison.against.name} ({LEVEL:.0%} interval where both reached the target)"
    )
    return Table(caption, ["method", "target", *(f"N = {n}" for n in shown), "least N", "interval"], rows)


def run_table(comparison: CostCurves) -> Table:
    """One line a run: accuracy in per cent with its standard error, and the cost to each target."""
    unit, _, scale = comparison.unit
    rows = []
    for curve in comparison.curves:
        first, last = curve.points[0], curve.points[-1]
        costs = [last.device_hours, *(curve.device_hours_to(target) for target in comparison.targets)]
        cells = [_reached(np.inf if cost is None else cost, scale) for cost in costs]
        base = percent(first.accuracy) if first.step == first.device_hours == 0 else "-"
        error = UNKNOWN if np.isnan(last.standard_error) else percent(last.standard_error)
        reached = f"{percent(last.accuracy)} ± {error}"
        rows.append([curve.run, base, reached, percent(curve.best.accuracy), *cells])
    device = comparison.runs[0].info["hardware"]["device"]
    caption = (
        f"Runs: accuracy on {comparison.data_source} (%), and device-{unit} to the targets ({NOT_REACHED}: not reached"
        f"{_base_legend(comparison)}); {device}"
    )
    targets = [f"to {100 * target:g}" for target in comparison.targets]
    return Table(caption, ["run", "base", "last ± s.e.", "best", "cost", *targets], rows)


def _curve_of(comparison: CostCurves, method: str) -> MethodCurve:
    return next(curve for curve in comparison.methods if curve.name == method)


def _base_legend(comparison: CostCurves) -> str:
    return f"; {AT_START}: by the base model itself" if comparison.reached_by_base else ""


def _reached(hours: float, scale: float) -> str:
    """What it took; a model that was there before anybody paid took nothing."""
    return AT_START if hours == 0 else _shown(hours, scale)


def _shown(hours: float, scale: float) -> str:
    return f"{scale * hours:.2f}" if np.isfinite(hours) else NOT_REACHED


def _share(one: Estimate) -> str:
    return UNKNOWN if np.isnan(one.share) else f"{one.share:.0%}"


def _interval(one: Estimate, scale: float) -> str:
    if np.isnan(one.share):
        return UNKNOWN
    return f"{_shown(one.low, scale)} to {_shown(one.high, scale)}"


def _ratio(one: Estimate) -> str:
    """0 and infinity are no ratios: one of the two fell short of the target."""
    return f"{one.value:.2f}" if one.value > 0 and np.isfinite(one.value) else NOT_REACHED


def _ratio_interval(one: Estimate) -> str:
    if np.isnan(one.share):
        return UNKNOWN
    if np.isnan(one.value):
        return NOT_REACHED
    return " to ".join(INFINITE if np.isinf(end) else f"{end:.2f}" if end else "0" for end in (one.low, one.high))


def _runs(value: float) -> str:
    return NOT_REACHED if np.isnan(value) else NEVER if np.isinf(value) else f"{value:.0f}"


def _runs_interval(one: Estimate) -> str:
    if np.isnan(one.share):
        return UNKNOWN
    return NOT_REACHED if np.isnan(one.value) else f"{_runs(one.low)} to {_runs(one.high)}"
