"""Differences between methods with their intervals."""

from __future__ import annotations

from matplotlib.figure import Figure

from fpa_verl.report.comparisons.paired import LEVEL, Paired
from fpa_verl.report.figures.drawing import COLOURS, draw, finish, new_figure, shortened


@draw.register
def draw_paired(comparison: Paired) -> dict[str, Figure]:
    """One line a method and problem set: the difference, its interval, and a line where there is none."""
    several = len({one.data_source for one in comparison.ahead}) > 1
    names = [shortened(f"{one.method}, {one.data_source}" if several else one.method) for one in comparison.ahead]
    figure, axes = new_figure(6.2, 1.3 + 0.32 * len(names))
    for place, one in enumerate(reversed(comparison.ahead)):
        low, high = (100 * end for end in one.difference.interval)
        axes.plot([low, high], [place, place], color=COLOURS[0], linewidth=1.8)
        axes.plot([100 * one.difference.difference], [place], marker="D", color=COLOURS[1])
    axes.axvline(0, color="0.4", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(names)), reversed(names))
    axes.set_ylim(-0.6, len(names) - 0.4)
    finish(axes, f"points ahead of {shortened(comparison.against)}, and {LEVEL:.0%} interval", "")
    axes.grid(visible=False, axis="y")
    return {comparison.name: figure}
