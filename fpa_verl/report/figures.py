"""The figures: colour-blind safe, and told apart by marker in grey."""

from __future__ import annotations

from functools import singledispatch
from itertools import cycle
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fpa_verl.files import atomic_path
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.dynamics import GRADIENT_NORM, PANELS, SIDES, Dynamics
from fpa_verl.report.lambdas import Lambdas
from fpa_verl.report.objectives import Objectives
from fpa_verl.report.wallclock import WallClock

# Okabe and Ito's palette, in an order that keeps neighbours apart in grey as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES: list[dict[str, Any]] = [{"color": c, "marker": m} for c, m in zip(COLOURS, MARKERS, strict=True)]


@singledispatch
def draw(comparison: Comparison, path: Path) -> None:
    """Write the figure of a comparison; its format is by the suffix."""
    raise NotImplementedError(f"no figure for {type(comparison).__name__}")


@draw.register
def draw_wallclock(comparison: WallClock, path: Path) -> None:
    """Accuracy against device-time, one line a run, one colour a recipe; the format is by the suffix.

    An offline run's line starts where its dataset was paid for: the dotted part is generation.
    A band of one standard error is drawn where a recipe has a single run.
    """
    name, scale = comparison.unit
    recipes = list(dict.fromkeys(curve.recipe for curve in comparison.curves))
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for recipe, style in zip(recipes, cycle(STYLES)):
        curves = [c for c in comparison.curves if c.recipe == recipe]
        for curve in curves:
            x = [scale * point.device_hours for point in curve.points]
            y = [100 * point.accuracy for point in curve.points]
            x[0] = scale * curve.data_device_hours if curve.points[0].step == 0 else x[0]
            axes.plot(x, y, **style, markersize=5, linewidth=1.6, label=recipe if curve is curves[0] else None)
            if curve.data_device_hours and curve.points[0].step == 0:
                axes.hlines(y[0], 0, x[0], colors=style["color"], linestyles="dotted", linewidth=1.4)
            if len(curves) == 1:
                errors = [100 * point.standard_error for point in curve.points]
                lower, upper = ([a + sign * e for a, e in zip(y, errors, strict=True)] for sign in (-1, 1))
                axes.fill_between(x, lower, upper, color=style["color"], alpha=0.15, linewidth=0)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{name} (dotted: generating the dataset; start-up and evaluation left out)")
    axes.set_ylabel(f"accuracy on {comparison.data_source} (%)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    _save(figure, path)


@draw.register
def draw_objectives(comparison: Objectives, path: Path) -> None:
    """Mean accuracy of each recipe as a dot, its seeds as small ones, the best at the top."""
    names = [choice.chosen.recipe for choice in comparison.choices]
    figure, axes = plt.subplots(figsize=(7.5, 1.2 + 0.3 * len(names)), layout="constrained")
    for place, choice in enumerate(reversed(comparison.choices)):
        values = [100 * value for value in choice.chosen.mean_accuracies(comparison.sources)]
        axes.scatter(values, [place] * len(values), s=14, color=COLOURS[0], alpha=0.5)
        axes.scatter([mean(values)], [place], s=50, color=COLOURS[1], marker="D", zorder=3)
    axes.set_yticks(range(len(names)), reversed(names))
    axes.set_xlabel(f"accuracy on {', '.join(comparison.sources)} (%): seeds, and their mean")
    axes.grid(alpha=0.3, axis="x")
    _save(figure, path)


@draw.register
def draw_lambdas(comparison: Lambdas, path: Path) -> None:
    """Accuracy over lambda, one line an objective, one standard deviation over seeds as bars."""
    figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for sweep, style in zip(comparison.sweeps, cycle(STYLES)):
        values = [[100 * v for v in one.mean_accuracies(comparison.sources)] for one in sweep.by_lambda.values()]
        spread = [stdev(v) if len(v) > 1 else 0.0 for v in values]
        x, y = list(sweep.by_lambda), [mean(v) for v in values]
        axes.errorbar(x, y, yerr=spread, **style, capsize=3, linewidth=1.6, label=sweep.label)
    axes.set_xlabel("lambda")
    axes.set_ylabel(f"accuracy on {', '.join(comparison.sources)} (%)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


@draw.register
def draw_dynamics(comparison: Dynamics, path: Path) -> None:
    """One panel a metric, one colour a recipe; right trajectories solid, wrong ones dashed."""
    shown = [m for m in PANELS if any(s.get(side, m) for s in comparison.series for side in SIDES)]
    rows = (len(shown) + 2) // 2
    figure, grid = plt.subplots(rows, 2, figsize=(10, 2.8 * rows), layout="constrained", squeeze=False)
    recipes = list(dict.fromkeys(series.run.recipe for series in comparison.series))
    palette = COLOURS if len(recipes) <= len(COLOURS) else plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    colours = dict(zip(recipes, cycle(palette), strict=False))
    panels = list(grid.flat)
    for axes, metric in zip(panels, shown, strict=False):
        for series in comparison.series:
            for side, dashes in zip(SIDES, ("-", "--"), strict=True):
                curve = series.get(side, metric)
                axes.plot(
                    curve.keys(), curve.values(), dashes, color=colours[series.run.recipe], linewidth=1.2, alpha=0.8
                )
        axes.set_title(PANELS[metric], fontsize=10)
    norms = panels[len(shown)]
    for series in comparison.series:
        curve = series.values.get(GRADIENT_NORM, {})
        norms.plot(curve.keys(), curve.values(), color=colours[series.run.recipe], linewidth=1.2, alpha=0.8)
    norms.set_title("gradient norm", fontsize=10)
    for axes in panels[len(shown) + 1 :]:
        axes.set_axis_off()
    for axes in panels[: len(shown) + 1]:
        axes.grid(alpha=0.3)
        axes.set_xlabel("step")
    handles = [Line2D([], [], color=colour, label=recipe) for recipe, colour in colours.items()]
    handles += [
        Line2D([], [], color="0.3", linestyle="-", label=SIDES[0]),
        Line2D([], [], color="0.3", linestyle="--", label=SIDES[1]),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip("."), dpi=160)
    plt.close(figure)
