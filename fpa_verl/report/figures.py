"""The wall-clock figure: colour-blind safe, and told apart by marker in grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from fpa_verl.files import atomic_path
from fpa_verl.report.tables import unit
from fpa_verl.report.wallclock import Comparison

# Okabe and Ito's palette, in an order that keeps neighbours apart in grey as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw_wallclock(comparison: Comparison, path: Path) -> None:
    """Accuracy against device-time, one line a run, one colour a recipe; the format is by the suffix.

    An offline run's line starts where its dataset was paid for: the dotted part is generation.
    A band of one standard error is drawn where a recipe has a single run.
    """
    name, scale = unit(comparison)
    recipes = list(dict.fromkeys(curve.recipe for curve in comparison.curves))
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for i, recipe in enumerate(recipes):
        curves = [c for c in comparison.curves if c.recipe == recipe]
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
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
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip("."), dpi=160)
    plt.close(figure)
