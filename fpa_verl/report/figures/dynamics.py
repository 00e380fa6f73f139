"""What training does to right and wrong trajectories, a panel a metric."""

from __future__ import annotations

from itertools import zip_longest

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fpa_verl.report.comparisons.dynamics import PANELS, RIGHT_ALONE, Dynamics
from fpa_verl.report.comparisons.foresight import foreseen
from fpa_verl.report.comparisons.mixing import mixed
from fpa_verl.report.figures.drawing import SIDE_DASHES, draw, finish, new_figure, shortened, style_of
from fpa_verl.report.figures.foresight import draw_foresight
from fpa_verl.report.figures.mixing import draw_mixing
from fpa_verl.report.statistics.arms import arms_of, labels
from fpa_verl.report.statistics.series import mean_curve
from fpa_verl.runs.metrics import GRADIENT_NORM, SIDES, dynamics_metric


@draw.register
def draw_dynamics(comparison: Dynamics) -> dict[str, Figure]:
    """Means over a method's seeds; right trajectories solid, wrong ones dashed and hollow."""
    shown = [m for m in PANELS if any(s.get(side, m) for s in comparison.series for side in SIDES)]
    rows = (len(shown) + 2) // 2
    figure, grid = new_figure(9.0, 2.6 * rows + 0.6, nrows=rows, ncols=2, squeeze=False)
    everything = arms_of(comparison.runs)
    # A method looks the same on every figure of these runs, those without dynamics included.
    styles = dict(zip(labels(everything), map(style_of, range(len(everything))), strict=True))
    values_of = {series.run.folder: series.values for series in comparison.series}
    methods = {
        name: [values_of[run.folder] for run in one.runs if run.folder in values_of]
        for name, one in zip(styles, everything, strict=True)
    }
    methods = {name: seeds for name, seeds in methods.items() if seeds}
    for axes, metric in zip_longest(grid.flat, [*shown, GRADIENT_NORM]):
        if metric is None:
            axes.set_axis_off()
            continue
        sides = SIDES[:1] if metric in RIGHT_ALONE else SIDES
        names = [GRADIENT_NORM] if metric == GRADIENT_NORM else [dynamics_metric(side, metric) for side in sides]
        for method, seeds in methods.items():
            for name, dashes, fill in zip(names, SIDE_DASHES, ("full", "none"), strict=False):
                steps, means = mean_curve([values.get(name, {}) for values in seeds])
                style = {**styles[method], "linestyle": dashes, "fillstyle": fill}
                axes.plot(steps, means, **style, markevery=max(1, len(steps) // 6), markersize=4.5, linewidth=1.2)
        finish(axes, "step", "")
        axes.set_title(PANELS.get(metric, "gradient norm"), fontsize=10)
    handles = [Line2D([], [], **{**styles[name], "linestyle": "-"}, label=shortened(name)) for name in methods]
    for side, dashes in zip(SIDES, SIDE_DASHES, strict=True):
        handles.append(Line2D([], [], color="0.3", linestyle=dashes, label=f"{side} trajectories"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figures = {comparison.name: figure}
    for name, measured, draw_them in (
        ("mixing", mixed(comparison.series), draw_mixing),
        ("foresight", foreseen(comparison.series), draw_foresight),
    ):
        folders = {series.run.folder for series in measured}
        of_method = {
            label: [values_of[run.folder] for run in arm.runs if run.folder in folders]
            for label, arm in zip(styles, everything, strict=True)
        }
        if folders:
            figures[name] = draw_them({label: seeds for label, seeds in of_method.items() if seeds}, styles)
    return figures
