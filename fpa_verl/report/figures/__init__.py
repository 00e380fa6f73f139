"""The figures: colour-blind safe, and told apart by marker and dashes in grey. One module a comparison."""

from fpa_verl.report.figures import cost, dynamics, lambdas, objectives, wallclock
from fpa_verl.report.figures.drawing import draw, save, style_of

__all__ = ["cost", "draw", "dynamics", "lambdas", "objectives", "save", "style_of", "wallclock"]
