"""Accuracy of every method as dots."""

from __future__ import annotations

from statistics import mean

from matplotlib.figure import Figure

from fpa_verl.report.comparisons.objectives import Objectives
from fpa_verl.report.figures.drawing import COLOURS, draw, finish, new_figure, shortened


@draw.register
def draw_objectives(comparison: Objectives) -> dict[str, Figure]:
    """Mean accuracy of each method as a diamond, its seeds as small dots, the best at the top."""
    names = [shortened(choice.chosen.method) for choice in comparison.choices]
    figure, axes = new_figure(6.2, 1.2 + 0.3 * len(names))
    for place, choice in enumerate(reversed(comparison.choices)):
        values = [100 * value for value in choice.chosen.mean_accuracies(comparison.sources)]
        axes.scatter(values, [place] * len(values), s=14, color=COLOURS[0], alpha=0.5)
        axes.scatter([mean(values)], [place], s=50, color=COLOURS[1], marker="D", zorder=3)
    axes.set_yticks(range(len(names)), reversed(names))
    axes.set_ylim(-0.6, len(names) - 0.4)
    finish(axes, f"accuracy on {', '.join(comparison.sources)} (%): seeds, and their mean", "")
    axes.grid(visible=False, axis="y")
    return {comparison.name: figure}
