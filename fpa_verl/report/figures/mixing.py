"""The weight of two gradients over a run, and the variance and squared bias that it weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from fpa_verl.report.figures.drawing import finish, legend_below, new_figure, shortened
from fpa_verl.report.statistics.series import mean_curve
from fpa_verl.runs.metrics import MIXING

# Metric to what it is called, and its dashes.
PARTS = {
    "trace_variance": ("variance, traces", "-"),
    "trace_bias": ("bias², traces", (0, (1, 1))),
    "empty_bias": ("bias², empty", (0, (4, 1.5))),
    "empty_variance": ("variance, empty", (0, (6, 1.5, 1, 1.5))),
}
# Below which a squared bias, whose estimate may be negative, is drawn on the axis.
NEAR_NOTHING = 1e-9

# Metric to step to value, of each seed of a method.
Seeds = Sequence[Mapping[str, Mapping[int, float]]]


def draw_mixing(methods: Mapping[str, Seeds], styles: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Means over a method's seeds."""
    figure, (left, right) = new_figure(9.0, 3.6, ncols=2)
    for method, seeds in methods.items():
        steps, alpha = mean_curve([values[f"{MIXING}alpha"] for values in seeds])
        left.plot(steps, alpha, **styles[method], markersize=4.5, linewidth=1.2, label=shortened(method))
        for metric, (what, dashes) in PARTS.items():
            steps, values = mean_curve([one[MIXING + metric] for one in seeds])
            style = {**styles[method], "linestyle": dashes, "marker": None}
            name = f"{shortened(method)}: {what}" if len(methods) > 1 else what
            right.plot(steps, values.clip(min=NEAR_NOTHING), **style, linewidth=1.2, label=name)
    left.set_ylim(-0.02, 1.02)
    right.set_yscale("log")
    finish(left, "step", "")
    finish(right, "step", "")
    left.set_title("weight of the gradient of traces", fontsize=10)
    right.set_title("of a batch's gradients", fontsize=10)
    legend_below(figure, right)
    return figure
