"""Effects with their intervals and bounds, a panel a unit."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fpa_verl.report.claims.effects import EFFECTS, Effect
from fpa_verl.report.claims.verdict import LEVEL, Verdict
from fpa_verl.report.comparisons.claims import Claims, describe
from fpa_verl.report.figures.drawing import COLOURS, draw, finish, new_figure

STYLES: dict[Verdict, dict[str, Any]] = {
    Verdict.HOLDS: {"color": COLOURS[0], "marker": "o"},
    Verdict.FAILS: {"color": COLOURS[4], "marker": "X"},
    Verdict.UNDECIDED: {"color": "0.45", "marker": "o", "fillstyle": "none"},
}
UNITS = {"points": "points of accuracy", "nats": "nats a trajectory", "times": "ratio of device-hours"}
# Ratios are drawn no further out: one whose method never got there is 0.
RATIOS = (0.05, 20.0)
# Inches of a row, and of what a panel has besides.
ROW, PANEL = 0.3, 0.75


@draw.register
def draw_claims(comparison: Claims) -> dict[str, Figure]:
    """One line an effect that was measured; none where there is nothing to draw."""
    by_unit: dict[str, list[tuple[str, Effect, Verdict]]] = {}
    for decision in comparison.decisions:
        for effect, verdict in zip(decision.effects, decision.parts, strict=True):
            if effect.measured and not np.isnan(effect.measured.value):
                row = (f"{decision.statement.name}: {describe(effect.part)}", effect, verdict)
                by_unit.setdefault(EFFECTS[effect.part.kind].unit, []).append(row)
    if not by_unit:
        return {}
    heights = [PANEL + ROW * len(rows) for rows in by_unit.values()]
    layout = {"nrows": len(by_unit), "squeeze": False, "gridspec_kw": {"height_ratios": heights}}
    figure, grid = new_figure(9.0, 0.5 + sum(heights), **layout)
    for axes, (unit, rows) in zip(grid.flat, by_unit.items(), strict=True):
        _forest(axes, rows)
        finish(axes, f"{UNITS[unit]}, and {LEVEL:.0%} interval", "")
        axes.grid(visible=False, axis="y")
    handles = [Line2D([], [], **style, linewidth=1.8, label=verdict.value) for verdict, style in STYLES.items()]
    handles.append(
        Line2D([], [], color="black", marker="|", linestyle="", markersize=11, label="bound; arrow: where it holds")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return {comparison.name: figure}


def _forest(axes: Axes, rows: list[tuple[str, Effect, Verdict]]) -> None:
    is_ratio = EFFECTS[rows[0][1].part.kind].is_ratio
    if is_ratio:
        axes.set_xscale("log")
    for place, (_, effect, verdict) in enumerate(reversed(rows)):
        assert effect.measured is not None
        part, scale = effect.part, EFFECTS[effect.part.kind].scale
        value, *ends = (scale * x for x in (effect.measured.value, *effect.measured.interval(LEVEL)))
        if is_ratio:
            value, *ends = np.clip([value, *ends], *RATIOS)
        axes.plot(ends, [place, place], color=STYLES[verdict]["color"], linewidth=1.8)
        axes.plot([value], [place], **STYLES[verdict], linestyle="")
        axes.plot([scale * part.bound], [place], color="black", marker="|", markersize=11, linestyle="")
        arrow, align = ("▸", "left") if part.direction == ">" else ("◂", "right")
        axes.annotate(arrow, (scale * part.bound, place), fontsize=7, va="center", ha=align)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)], fontsize=8)
    axes.set_ylim(-0.6, len(rows) - 0.4)
