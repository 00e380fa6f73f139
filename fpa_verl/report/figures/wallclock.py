"""Accuracy against device-time and wall-clock time, and what sharing a dataset makes of its cost."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from fpa_verl.report.comparisons.wallclock import REUSES, WallClock
from fpa_verl.report.figures.drawing import draw, finish, legend_below, new_figure, shortened, style_of
from fpa_verl.report.statistics.bootstrap import LEVEL
from fpa_verl.report.statistics.curves import Axis, MethodCurve
from fpa_verl.report.statistics.targets import cost_per_run


@draw.register
def draw_wallclock(comparison: WallClock) -> dict[str, Figure]:
    """One figure an axis, and one of reused data where there is some to compare."""
    figures = {"wallclock": _accuracy(comparison, "device"), "wallclock_elapsed": _accuracy(comparison, "wall")}
    if comparison.reuse_target is not None:
        figures["wallclock_reuse"] = _reuse(comparison, comparison.reuse_target)
    return figures


def _accuracy(comparison: WallClock, axis: Axis) -> Figure:
    """Mean over seeds with its interval, single seeds thin behind it; dotted: generating the dataset."""
    unit, _, scale = comparison.unit
    figure, axes = new_figure(6.2, 4.3)
    for place, curve in enumerate(comparison.methods):
        _draw_method(axes, comparison, place, curve, axis, scale)
    axes.set_xlim(left=0)
    what = f"device-{unit}" if axis == "device" else f"wall-clock {unit}"
    finish(
        axes,
        f"{what} (dotted: generating the dataset)",
        f"accuracy on {comparison.data_source} (%)",
    )
    axes.set_title(f"band: {LEVEL:.0%} interval over problems and seeds", fontsize=9, loc="right", color="0.35")
    legend_below(figure, axes)
    return figure


def _draw_method(axes: Axes, comparison: WallClock, place: int, curve: MethodCurve, axis: Axis, scale: float) -> None:
    style = style_of(place)
    # The base model costs nothing, but training on a dataset begins only where that is paid for.
    starts_at = scale * curve.data[axis] if curve.begins_at_base and not curve.earlier else None

    def from_the_data_on(hours: np.ndarray) -> np.ndarray:
        x = scale * hours
        return x if starts_at is None else np.concatenate(([starts_at], x[1:]))

    x, y = from_the_data_on(curve.mean_hours(axis)), 100 * curve.mean_accuracy()
    for hours, accuracy in zip(curve.hours(axis), curve.accuracies(), strict=True):
        if len(curve.runs) > 1:
            axes.plot(from_the_data_on(hours), 100 * accuracy, color=style["color"], linewidth=0.7, alpha=0.35)
    lower, upper = comparison.band(place)
    axes.fill_between(x, 100 * lower, 100 * upper, color=style["color"], alpha=0.13, linewidth=0)
    # Markers of a long run would hide its line.
    spacing = max(1, len(x) // 12)
    own = slice(curve.earlier, None)
    axes.plot(x[own], y[own], **style, markevery=spacing, markersize=5.5, linewidth=1.8, label=shortened(curve.name))
    if curve.earlier:
        # Of the run that it goes on from, up to there; the base model in front costs nothing.
        to = curve.earlier + 1
        axes.plot(x[:to], y[:to], color=style["color"], linewidth=1.2, linestyle=(0, (1, 1)))
    elif starts_at:
        axes.hlines(y[0], 0, starts_at, colors=style["color"], linestyles="dotted", linewidth=1.4)


def _reuse(comparison: WallClock, target: float) -> Figure:
    """Device-time a run over the number of runs that share what was made before them."""
    unit, _, scale = comparison.unit
    figure, axes = new_figure(6.2, 4.0)
    runs = np.array(REUSES, dtype=float)
    for place, curve in enumerate(comparison.methods):
        (time,) = (t for t in comparison.times if t.method == curve.name and t.target == target)
        if not np.isfinite(time.run_hours):
            continue
        costs = scale * cost_per_run(curve.data["device"], time.run_hours, runs)
        axes.plot(runs, costs, **style_of(place), markersize=5.5, linewidth=1.8, label=shortened(curve.name))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(REUSES))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(bottom=0)
    finish(axes, "runs that share the dataset", f"device-{unit} a run, to {100 * target:g} %")
    legend_below(figure, axes)
    return figure
