"""What all figures have in common: how a method is told apart, and how a figure is written."""

from __future__ import annotations

from functools import singledispatch
from pathlib import Path
from typing import Any, TextIO

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpa_verl.files import atomic_path
from fpa_verl.report.comparison import Comparison

# Okabe and Ito's palette, in an order that keeps neighbours apart in grey as well.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Dotted is left for the generation of a dataset.
DASHES = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1, 1.5)))
# Of right and of wrong trajectories.
SIDE_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)))
DOTS_AN_INCH = 160
NAME_LENGTH = 40
# Inches of a row of the legend.
ROW_HEIGHT = 0.19


def style_of(place: int) -> dict[str, Any]:
    """Colour, marker and dashes of the method at a place of the legend.

    No two of the first 21 are alike in grey, no two of the first 147 in colour.
    """
    return {
        "color": COLOURS[(place + place // 21) % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[place % len(DASHES)],
    }


@singledispatch
def draw(comparison: Comparison) -> dict[str, Figure]:
    """The figures of a comparison by name, the most telling first; the name is that of its files."""
    raise NotImplementedError(f"no figure for {type(comparison).__name__}")


def new_figure(width: float, height: float, **layout: Any) -> tuple[Figure, Any]:
    """A figure of some inches and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**layout)


def finish(axes: Axes, x: str, y: str) -> None:
    """Labels and a grid."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, axes: Axes) -> None:
    """Outside, where it covers no curve."""
    handles, names = axes.get_legend_handles_labels()
    longest = max(map(len, names), default=0)
    columns = min(3 if longest < 20 else 2 if longest < 30 else 1, len(names) or 1)
    # A long legend makes the figure higher and not the axes lower.
    figure.set_figheight(figure.get_figheight() + ROW_HEIGHT * (len(names) // columns))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def shortened(name: str) -> str:
    """A method's name as a figure has room for it: whole names are in the tables."""
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"


def save(figure: Figure, path: Path) -> None:
    """Write a figure whole; its format is by the suffix."""
    with atomic_path(path) as temporary:
        write(figure, temporary, path.suffix.lstrip("."))


def write(figure: Figure, target: Path | TextIO, form: str) -> None:
    """Write a figure as "png" or "svg", the same bytes for the same content."""
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type") if form == "svg" else ("Software",))
    with matplotlib.rc_context({"svg.hashsalt": "fpa-verl"}):
        figure.savefig(target, format=form, dpi=DOTS_AN_INCH, metadata=metadata)
    # What was laid out once stays as it is in other formats.
    figure.set_layout_engine("none")
