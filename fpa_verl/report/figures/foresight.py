"""The lambda that would have predicted the policy best, and how much of its change, by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fpa_verl.report.comparisons.foresight import LAMBDA, Values, horizons
from fpa_verl.report.figures.drawing import SIDE_DASHES, finish, new_figure, shortened
from fpa_verl.report.statistics.series import mean_curve
from fpa_verl.runs.metrics import FORESIGHT, SIDES

# Horizons, nearest first.
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)))
GREY = "0.3"


def draw_foresight(methods: Mapping[str, Sequence[Values]], styles: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Means over a method's seeds: of all trajectories, of right and of wrong ones, and what is explained."""
    figure, (best, sides, explained) = new_figure(11.0, 3.8, ncols=3)
    known = sorted({horizon for seeds in methods.values() for values in seeds for horizon in horizons(values)})
    dashes_of = dict(zip(known, DASHES, strict=False))
    for method, seeds in methods.items():
        style = {**styles[method], "markersize": 4.5, "linewidth": 1.2}
        for horizon, dashes in dashes_of.items():
            _with_errors(best, seeds, horizon, {**style, "linestyle": dashes})
            _curve(explained, seeds, f"{horizon}/explained", {**style, "linestyle": dashes})
        _curve(explained, seeds, f"{known[0]}/explained_by_own", {**style, "linestyle": "", "fillstyle": "none"})
        for side, dashes, fill in zip(SIDES, SIDE_DASHES, ("full", "none"), strict=True):
            _curve(sides, seeds, f"{known[0]}/{side}/lambda", {**style, "linestyle": dashes, "fillstyle": fill})
        if found := [values[LAMBDA] for values in seeds if LAMBDA in values]:
            steps, lambdas = mean_curve(found)
            best.step(steps, lambdas, where="mid", color=styles[method]["color"], linewidth=2.5, alpha=0.35)
    for horizon, dashes in dashes_of.items():
        at, linear = _if_linear([values for seeds in methods.values() for values in seeds], horizon)
        best.plot(at, linear, color="0.6", linestyle=dashes, linewidth=0.8, marker=".")
    explained.set_ylim(-0.05, 1.05)
    titles = {best: "best lambda", sides: "of right and of wrong trajectories", explained: "share of change explained"}
    for axes, title in titles.items():
        finish(axes, "step", "")
        axes.set_title(title, fontsize=10)
    figure.legend(
        handles=_handles(methods, styles, dashes_of, [values for seeds in methods.values() for values in seeds]),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    return figure


def _curve(axes: Axes, seeds: Sequence[Values], metric: str, style: Mapping[str, Any]) -> None:
    found = [values[FORESIGHT + metric] for values in seeds if FORESIGHT + metric in values]
    if found:
        axes.plot(*mean_curve(found), **style)


def _with_errors(axes: Axes, seeds: Sequence[Values], horizon: int, style: Mapping[str, Any]) -> None:
    """Best lambda of a horizon, with the standard error that it has in a run."""
    names = [f"{FORESIGHT}{horizon}/{name}" for name in ("lambda", "lambda_error")]
    found = [[values[name] for values in seeds if name in values] for name in names]
    if all(found):
        (steps, lambdas), (_, errors) = map(mean_curve, found)
        # Of a single trajectory there are none.
        axes.errorbar(steps, lambdas, yerr=errors if len(errors) == len(steps) else None, capsize=2, **style)


def _if_linear(runs: Sequence[Values], horizon: int) -> tuple[list[int], list[float]]:
    """Steps, and the lambda of a training that moves linearly: as many steps ahead as there were before."""
    ahead: dict[int, list[float]] = {}
    for values in runs:
        for step, linear in values.get(f"{FORESIGHT}{horizon}/linear", {}).items():
            ahead.setdefault(step, []).append(linear)
    return sorted(ahead), [mean(ahead[step]) for step in sorted(ahead)]


def _handles(
    methods: Mapping[str, Sequence[Values]],
    styles: Mapping[str, Mapping[str, Any]],
    dashes_of: Mapping[int, Any],
    runs: Sequence[Values],
) -> list[Line2D]:
    own = [Line2D([], [], **{**styles[name], "linestyle": "-"}, label=shortened(name)) for name in methods]
    for horizon, dashes in dashes_of.items():
        steps = {round(n) for one in runs for n in one.get(f"{FORESIGHT}{horizon}/steps", {}).values()}
        label = f"{', '.join(map(str, sorted(steps)))} steps ahead"
        own.append(Line2D([], [], color=GREY, linestyle=dashes, label=label))
    own.append(Line2D([], [], color="0.6", linewidth=0.8, marker=".", label="if training were linear"))
    if any(LAMBDA in one for one in runs):
        own.append(Line2D([], [], color=GREY, linewidth=2.5, alpha=0.35, label="lambda that it trained with"))
    for side, dashes in zip(SIDES, SIDE_DASHES, strict=True):
        own.append(Line2D([], [], color=GREY, linestyle=dashes, label=f"{side} trajectories (middle)"))
    if any(name.endswith("/explained_by_own") for one in runs for name in one):
        own.append(Line2D([], [], color=GREY, linestyle="", marker="o", fillstyle="none", label="by its own lambda"))
    return own
