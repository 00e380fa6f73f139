"""The figures: colour-blind safe, and told apart by marker and dashes in grey. One module a comparison."""

from matplotlib.figure import Figure

from fpa_verl.report.figures import (
    claims,
    cost,
    decoding,
    dynamics,
    lambdas,
    objectives,
    paired,
    paper,
    paper_figures,
    wallclock,
)
from fpa_verl.report.figures.drawing import draw, save, write

__all__ = [
    "Figure",
    "claims",
    "cost",
    "decoding",
    "draw",
    "dynamics",
    "lambdas",
    "objectives",
    "paired",
    "paper",
    "paper_figures",
    "save",
    "wallclock",
    "write",
]
