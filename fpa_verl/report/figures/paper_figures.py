"""The paper's figures, a panel beside the other."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fpa_verl.report.comparisons.paper_figures import Figures, Panel, PaperFigure
from fpa_verl.report.figures.drawing import SIDE_DASHES, draw, finish, new_figure, shortened, style_of
from fpa_verl.runs.metrics import SIDES


@draw.register
def draw_paper_figures(comparison: Figures) -> dict[str, Figure]:
    """One file a figure, a method alike on all of them; right trajectories solid, wrong ones dashed and hollow."""
    shown = [one for one in comparison.figures if one.drawn]
    methods = dict.fromkeys(line.method for one in shown for panel in one.drawn for line in panel.lines)
    styles = {method: style_of(place) for place, method in enumerate(methods)}
    return {f"figure_{one.number}": _figure(one, styles) for one in shown}


def _figure(one: PaperFigure, styles: dict[str, dict[str, Any]]) -> Figure:
    figure, grid = new_figure(3.7 * len(one.drawn) + 0.4, 3.5, ncols=len(one.drawn), squeeze=False)
    for axes, panel in zip(grid.flat, one.drawn, strict=True):
        _draw(axes, panel, styles)
    lines = [line for panel in one.drawn for line in panel.lines]
    handles = [
        Line2D([], [], **{**styles[name], "linestyle": "-"}, label=shortened(name))
        for name in dict.fromkeys(line.method for line in lines)
    ]
    if any(line.side for line in lines):
        handles += [
            Line2D([], [], color="0.3", linestyle=dashes, label=f"{side} trajectories")
            for side, dashes in zip(SIDES, SIDE_DASHES, strict=True)
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _draw(axes: Axes, panel: Panel, styles: dict[str, dict[str, Any]]) -> None:
    for line in panel.lines:
        style = {**styles[line.method], "linestyle": SIDE_DASHES[SIDES.index(line.side)] if line.side else "-"}
        fill = "none" if line.side == SIDES[1] else "full"
        every = max(1, len(line.x) // 8)
        axes.plot(line.x, line.y, **style, fillstyle=fill, markevery=every, markersize=4.5, linewidth=1.3)
    if panel.mark is not None:
        axes.axhline(panel.mark, color="0.4", linewidth=0.8, linestyle=":")
    finish(axes, panel.x, panel.y)
    axes.set_title(panel.title, fontsize=10)
