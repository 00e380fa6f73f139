"""Accuracy over the tokens that an answer took."""

from __future__ import annotations

from matplotlib.figure import Figure

from fpa_verl.report.comparisons.decoding import Decoding
from fpa_verl.report.figures.drawing import draw, finish, legend_below, new_figure, shortened, style_of


@draw.register
def draw_decoding(comparison: Decoding) -> dict[str, Figure]:
    """A point a way of answering, its 95 % interval as bars."""
    figure, axes = new_figure(6.2, 4.2)
    for place, one in enumerate(comparison.decoded):
        low, high = one.accuracy.interval
        bars = [[100 * (one.accuracy.mean - low)], [100 * (high - one.accuracy.mean)]]
        label = shortened(f"{one.run.name}: {one.how}")
        axes.errorbar([one.tokens], [100 * one.accuracy.mean], yerr=bars, **style_of(place), capsize=3, label=label)
    finish(axes, "generated tokens a problem", f"accuracy on {comparison.data_source} (%)")
    legend_below(figure, axes)
    return {comparison.name: figure}
