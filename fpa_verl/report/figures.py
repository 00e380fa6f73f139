"""The wall-clock figure: colour-blind safe, and told apart by marker in grey."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from fpa_verl.files import atomic_path
from fpa_verl.report.wallclock import Comparison

# Okabe and Ito's palette, in an order that keeps neighbours apart in grey as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw_wallclock(comparison: Comparison, path: Path) -> None:
    """Accuracy against device-time, with a band of one standard error; the format is by the suffix.

    An offline run's line starts where its dataset was paid for: the gap before it is generation.
    """
    longest = max(curve.points[-1].device_hours for curve in comparison.curves)
    unit, scale = ("device-hours", 1.0) if longest >= 1 else ("device-minutes", 60.0)
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    for i, (run, curve) in enumerate(zip(comparison.runs, comparison.curves, strict=True)):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        paid = [point for point in curve.points if point.step]
        base = [point for point in curve.points if not point.step]
        generation = run.dataset_device_seconds / 3600
        start = [(generation if generation else 0.0, base[0].accuracy)] if base else []
        x = [scale * h for h, _ in start] + [scale * point.device_hours for point in paid]
        y = [100 * a for _, a in start] + [100 * point.accuracy for point in paid]
        error = [100 * point.standard_error for point in base[: len(start)] + paid]
        axes.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=1.8, label=curve.run)
        lower, upper = ([a + sign * e for a, e in zip(y, error, strict=True)] for sign in (-1, 1))
        axes.fill_between(x, lower, upper, color=colour, alpha=0.15, linewidth=0)
        if generation and start:
            axes.hlines(y[0], 0, x[0], colors=colour, linestyles="dotted", linewidth=1.4)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{unit} (dotted: generating the dataset; start-up and evaluation left out)")
    axes.set_ylabel(f"accuracy on {comparison.data_source} (%), ± 1 s.e.")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip("."), dpi=160)
    plt.close(figure)
