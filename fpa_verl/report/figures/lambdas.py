"""Accuracy over lambda."""

from __future__ import annotations

from statistics import mean, stdev

from matplotlib.figure import Figure

from fpa_verl.report.comparisons.lambdas import Lambdas
from fpa_verl.report.figures.drawing import draw, finish, legend_below, new_figure, shortened, style_of


@draw.register
def draw_lambdas(comparison: Lambdas) -> dict[str, Figure]:
    """One line an objective, one standard deviation over seeds as bars."""
    figure, axes = new_figure(6.2, 4.2)
    for place, sweep in enumerate(comparison.sweeps):
        values = [[100 * v for v in one.mean_accuracies(comparison.sources)] for one in sweep.by_lambda.values()]
        spread = [stdev(v) if len(v) > 1 else 0.0 for v in values]
        x, y = list(sweep.by_lambda), [mean(v) for v in values]
        axes.errorbar(x, y, yerr=spread, **style_of(place), capsize=3, linewidth=1.6, label=shortened(sweep.label))
    finish(axes, "lambda", f"accuracy on {', '.join(comparison.sources)} (%)")
    legend_below(figure, axes)
    return {comparison.name: figure}
