"""Our accuracies beside the published ones."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special

from fpa_verl.report.comparisons.paper import Paper
from fpa_verl.report.comparisons.paper_tables import by_table
from fpa_verl.report.figures.drawing import COLOURS, draw, finish, new_figure, shortened
from fpa_verl.report.paper.cells import Cell, Gain
from fpa_verl.report.paper.measured import LEVEL
from fpa_verl.report.paper.published import lambda_of

NORMAL = float(special.ndtri(0.5 + LEVEL / 2))
# Told apart by shape as well: ours is filled.
OURS: dict[str, Any] = {"marker": "o", "color": COLOURS[0]}
PUBLISHED: dict[str, Any] = {"marker": "D", "color": COLOURS[4], "markerfacecolor": "none"}
GAIN_MARKERS = ("D", "s", "^")


@draw.register
def draw_paper(comparison: Paper) -> dict[str, Figure]:
    """One figure a table and model with a panel a column, and one of the gains over Off-RL."""
    found = {_name(cells[0]): _table_figure(cells) for cells in by_table(comparison.cells)}
    if any(one.difference for one in comparison.gains):
        found["paper_gains"] = _gain_figure(comparison.gains)
    return found


def _name(cell: Cell) -> str:
    return f"paper_table_{cell.table}_{re.sub('[^a-z0-9]+', '_', cell.model.lower())}"


def _table_figure(cells: list[Cell]) -> Figure:
    """Dots with 95 % intervals, ours and the published, a line a row of the table."""
    rows = list(dict.fromkeys(cell.row for cell in cells))
    panels = list(dict.fromkeys(cell.column for cell in cells))
    wide = min(4, len(panels))
    high = math.ceil(len(panels) / wide)
    height = high * (0.9 + 0.32 * len(rows)) + 0.5
    figure, grid = new_figure(2.4 * wide + 1.8, height, nrows=high, ncols=wide, sharey=True, squeeze=False)
    for axes, column in zip(grid.flat, panels, strict=True):
        _panel(axes, rows, [cell for cell in cells if cell.column == column])
        axes.set_title(column, fontsize=10)
        finish(axes, "accuracy (%)", "")
        axes.grid(visible=False, axis="y")
    grid[0, 0].set_yticks(range(len(rows)), rows)
    grid[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    handles, names = _handles(grid.flat)
    figure.suptitle(f"Table {cells[0].table}, {cells[0].model}: {LEVEL:.0%} intervals", fontsize=10)
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _handles(panels: Iterable[Axes]) -> tuple[list[Any], list[str]]:
    """Those of the first panel that has both; a panel may have no dot of ours."""
    return max((axes.get_legend_handles_labels() for axes in panels), key=lambda found: len(found[1]))


def _panel(axes: Axes, rows: list[str], cells: list[Cell]) -> None:
    published = [
        (rows.index(cell.row), cell.published.accuracy, NORMAL * cell.published.standard_error) for cell in cells
    ]
    ours = [
        (rows.index(cell.row), cell.ours.measured.accuracy, cell.ours.measured.reach)
        for cell in cells
        if cell.ours.measured
    ]
    for shift, dots, style, label in ((0.14, published, PUBLISHED, "published"), (-0.14, ours, OURS, "ours")):
        if dots:
            y, x, reach = zip(*dots, strict=True)
            # An error that is not known is no bar.
            bars = [0.0 if math.isnan(one) else 100 * one for one in reach]
            shifted = [place + shift for place in y]
            axes.errorbar([100 * v for v in x], shifted, xerr=bars, **style, linestyle="", capsize=2, label=label)


def _gain_figure(gains: list[Gain]) -> Figure:
    """Ours with its interval, and what the paper's models gained."""
    shown = [one for one in gains if one.difference]
    several = len({one.model for one in shown}) > 1
    names = [shortened(f"{one.model}, {one.method}" if several else one.method) for one in shown]
    figure, axes = new_figure(6.4, 1.7 + 0.34 * len(names))
    for place, one in enumerate(shown):
        assert one.difference is not None
        low, high = 100 * one.difference.low, 100 * one.difference.high
        axes.plot([low, high], [place, place], color=OURS["color"], linewidth=1.8)
        axes.plot([100 * one.difference.value], [place], **OURS, linestyle="", label="ours" if not place else None)
        for marker, colour, model in zip(GAIN_MARKERS, COLOURS[4:], lambda_of(), strict=True):
            if model in one.published:
                style = {"marker": marker, "color": colour, "markerfacecolor": "none", "linestyle": ""}
                axes.plot([100 * one.published[model]], [place + 0.18], **style, label=f"published, {model}")
    axes.axvline(0, color="0.4", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    finish(axes, f"points ahead of Off-RL; ours with {LEVEL:.0%} interval", "")
    axes.grid(visible=False, axis="y")
    handles, found = axes.get_legend_handles_labels()
    once = dict(zip(found, handles, strict=True))
    figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure
