"""What all figures have in common: how a method is told apart, and how a figure is written."""

from __future__ import annotations

from functools import singledispatch
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fpa_verl.files import atomic_path
from fpa_verl.report.comparison import Comparison

# Okabe and Ito's palette, in an order that keeps neighbours apart in grey as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Dotted is left for the generation of a dataset.
DASHES = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1, 1.5)))
DOTS_AN_INCH = 160


def style_of(place: int) -> dict[str, Any]:
    """Colour, marker and dashes of the method at a place of the legend; no two of the first 147 are alike."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[(place + place // len(COLOURS)) % len(MARKERS)],
        "linestyle": DASHES[place % len(DASHES)],
    }


@singledispatch
def draw(comparison: Comparison) -> dict[str, Figure]:
    """The figures of a comparison by name, the most telling first; the name is that of its files."""
    raise NotImplementedError(f"no figure for {type(comparison).__name__}")


def new_figure(width: float, height: float, **layout: Any) -> tuple[Figure, Any]:
    """A figure of some inches and its axes."""
    return plt.subplots(figsize=(width, height), layout="constrained", **layout)


def finish(axes: Axes, x: str, y: str) -> None:
    """Labels and a grid."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, axes: Axes) -> None:
    """Outside, where it covers no curve."""
    handles, names = axes.get_legend_handles_labels()
    columns = min(3, len(names)) if max(map(len, names), default=0) < 30 else 1
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def save(figure: Figure, path: Path) -> None:
    """Write a figure, the same bytes for the same content; the format is by the suffix."""
    form = path.suffix.lstrip(".")
    # Without a salt of its own the ids inside an SVG are random; with it they differ from figure to figure.
    with plt.rc_context({"svg.hashsalt": path.stem}), atomic_path(path) as temporary:
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(temporary, format=form, dpi=DOTS_AN_INCH, metadata=metadata)
