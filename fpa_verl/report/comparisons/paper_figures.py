"""`--compare figures`: the paper's Figures 1 to 6 and 8, of the runs that are there.

A figure is drawn as far as its runs go; what is missing is named with the command that would run it. Figure 1's sketch
and Figure 7, the prompt, are no measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.report.comparable import evaluated, notes_on, problem_sets, put_as_usual, require_comparable
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.comparisons import lambdas
from fpa_verl.report.paper.models import last_part
from fpa_verl.report.statistics.arms import Arm, arms_of, choose
from fpa_verl.report.statistics.base import base_notes
from fpa_verl.report.statistics.curves import method_curves
from fpa_verl.report.statistics.series import Series, mean_curve, read_series
from fpa_verl.runs.metrics import GRADIENT_NORM, SIDES, dynamics_metric
from fpa_verl.runs.run import Run, command_beside
from fpa_verl.tables import Table

WRONG = SIDES[1]
OFF_RL, FPA, GRPO = "off_rl", "fpa_offline", "grpo_baseline"
LONG = {OFF_RL: "off_rl_prolonged", FPA: "fpa_offline_prolonged"}
ONE_SIDED = ("fpa_correct_only", "fpa_incorrect_only")
# The problem set of the paper's figures, where it was evaluated.
MATH500 = "math500"
# Of the paper's figures that name none.
DEFAULT_MODEL = "Qwen3-4B-Base"
# Of Figure 6.
TARGET = 73.0
REFERENCE = "actor_rollout_ref.actor.policy_loss.track_reference=true"
NORMS = "gradient_norms.every=10"


@dataclass(frozen=True)
class Line:
    """A curve: mean over a method's seeds.

    Attributes:
        side: "right" or "wrong" trajectories; None for a curve of neither.
        x, y: accuracies in percent.
    """

    method: str
    side: str | None
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Panel:
    """A part of a figure.

    Attributes:
        mark: a level to draw.
    """

    title: str
    x: str
    y: str
    lines: list[Line]
    mark: float | None = None


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper, of our runs.

    Attributes:
        shows: what the paper's shows.
        model: of which it is.
        missing: what could not be drawn, and how to run it.
    """

    number: int
    shows: str
    model: str
    panels: list[Panel]
    missing: list[str]

    @property
    def drawn(self) -> list[Panel]:
        return [panel for panel in self.panels if panel.lines]


@dataclass
class Material:
    """What the figures are drawn from, and what was looked for and not found.

    Attributes:
        arms: method to its runs, at the settings that validation chooses.
        series: method to the metrics of its runs.
        source: the problem set.
        sources: all of them.
        left_out: method that was run to why its runs are not drawn.
        overrides: method to what its recipe must be run with for the figure.
        missing: collects, while a figure is put together.
    """

    runs: list[Run]
    arms: Mapping[str, Arm]
    series: Mapping[str, list[Series]]
    source: str
    sources: list[str]
    left_out: Mapping[str, str]
    overrides: Mapping[str, tuple[str, ...]]
    missing: list[str] = field(default_factory=list)

    def has(self, method: str) -> bool:
        if method in self.arms:
            return True
        command = command_beside(self.runs).for_recipe(method).adding(self.overrides.get(method, ()))
        self.lacks(self.left_out.get(method) or f"no run of {method}: {command}")
        return False

    def lacks(self, what: str) -> None:
        if what not in self.missing:
            self.missing.append(what)

    def metric(self, method: str, name: str, side: str | None = None, remedy: str = "") -> list[Line]:
        """Mean over seeds of a metric by step; nothing where no run logged it."""
        if not self.has(method):
            return []
        key = dynamics_metric(side, name) if side else name
        seeds = [one.values[key] for one in self.series[method] if key in one.values]
        if not seeds:
            self.lacks(f"{method} logged no {name}" + (f": run it with {remedy}" if remedy else ""))
            return []
        return [Line(method, side, *mean_curve(seeds))]

    def by_side(self, method: str, name: str, remedy: str = "") -> list[Line]:
        return [line for side in SIDES for line in self.metric(method, name, side, remedy)]

    def accuracy(self, *methods: str, axis: str = "step") -> list[Line]:
        """Mean over seeds of the accuracy by step, or by wall-clock hours with the data in front."""
        there = [self.arms[method] for method in methods if self.has(method)]
        lines = []
        for arm, curve in zip(there, method_curves(there, self.source) if there else [], strict=True):
            x = curve.steps if axis == "step" else curve.mean_hours("wall")
            lines.append(Line(arm.method, None, np.asarray(x, dtype=float), 100 * curve.mean_accuracy()))
        return lines


def changes(material: Material, *methods: str) -> Panel:
    """Log pi_theta(y) - log pi_ref(y), summed over the tokens of a response."""
    lines = [line for method in methods for line in material.by_side(method, "log_prob_change", REFERENCE)]
    return Panel("log-prob change", "step", "log pi(y) - log pi_ref(y)", lines)


def weights(material: Material, off_rl: str, fpa: str) -> Panel:
    """The probability that weights the gradient: the policy's for Off-RL, the future policy's for FPA."""
    lines = [*material.by_side(off_rl, "policy_weight"), *material.by_side(fpa, "future_weight")]
    return Panel("weight of the gradient", "step", "mean over trajectories", lines)


def ratio(material: Material) -> Panel:
    """The future policy's weight in the FPA run over the policy's in the Off-RL run, of wrong trajectories."""
    above = material.metric(FPA, "future_weight", WRONG)
    below = material.metric(OFF_RL, "policy_weight", WRONG)
    lines = []
    if above and below:
        steps = np.intersect1d(above[0].x, below[0].x)
        mine, other = (line.y[np.isin(line.x, steps)] for line in (above[0], below[0]))
        lines = [Line(FPA, WRONG, steps, mine / other)]
    return Panel("FPA's weight over Off-RL's, wrong trajectories", "step", "ratio", lines, mark=1.0)


def accuracies(material: Material, *methods: str) -> Panel:
    return Panel("accuracy", "step", f"{material.source} (%)", material.accuracy(*methods))


def figure_1(material: Material) -> list[Panel]:
    return [accuracies(material, OFF_RL, FPA), changes(material, OFF_RL, FPA)]


def figure_2(material: Material) -> list[Panel]:
    return [changes(material, OFF_RL, FPA), weights(material, OFF_RL, FPA), ratio(material)]


def figure_3(material: Material) -> list[Panel]:
    off_rl, fpa = LONG[OFF_RL], LONG[FPA]
    low = [
        *material.metric(off_rl, "low_policy_weight", WRONG),
        *material.metric(fpa, "low_future_weight", WRONG),
    ]
    return [
        changes(material, off_rl, fpa),
        accuracies(material, off_rl, fpa),
        Panel("weights under 0.2, wrong trajectories", "step", "share", low),
    ]


def figure_4(material: Material) -> list[Panel]:
    norms = [line for method in ONE_SIDED for line in material.metric(method, GRADIENT_NORM)]
    return [
        changes(material, *ONE_SIDED),
        accuracies(material, *ONE_SIDED),
        Panel("gradient norm", "step", "before clipping", norms),
    ]


def figure_5(material: Material) -> list[Panel]:
    try:
        sweeps = lambdas.compare([run for run in material.runs if run.method in (FPA, OFF_RL)]).sweeps
    except DatasetError as error:
        material.lacks(str(error))
        sweeps = []

    def panel(label: str, sources: list[str]) -> Panel:
        lines = []
        for sweep in sweeps:
            y = [100 * float(np.mean(arm.mean_accuracies(sources))) for arm in sweep.by_lambda.values()]
            lines.append(Line(sweep.label, None, np.array(list(sweep.by_lambda)), np.array(y)))
        return Panel(label, "lambda", "accuracy (%)", lines)

    one = panel(material.source, [material.source])
    return [one, panel("mean over the sets", material.sources)] if len(material.sources) > 1 else [one]


def figure_6(material: Material) -> list[Panel]:
    lines = material.accuracy(FPA, GRPO, axis="wall")
    mark = TARGET if material.source == MATH500 else None
    return [Panel("accuracy over wall-clock time, data included", "hours", f"{material.source} (%)", lines, mark)]


def figure_8(material: Material) -> list[Panel]:
    left = changes(material, OFF_RL)
    norms = material.by_side(OFF_RL, "gradient_norm", NORMS)
    return [left, Panel("gradient norm of each side", "step", "before clipping", norms)]


@dataclass(frozen=True)
class Kind:
    """What is known of a figure before there is a run.

    Attributes:
        overrides: method to what its recipe must be run with to log what is drawn.
    """

    shows: str
    panels: Callable[[Material], list[Panel]]
    model: str = DEFAULT_MODEL
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


FIGURES = {
    1: Kind(
        "Off-RL collapses, FPA is stable (the quantity is not named)",
        figure_1,
        "Llama-3.2-3B-Instruct",
        {OFF_RL: (REFERENCE,)},
    ),
    2: Kind(
        "Off-RL loses right and wrong ones, FPA keeps right ones; its weight of wrong ones falls first",
        figure_2,
        overrides={OFF_RL: (REFERENCE,)},
    ),
    3: Kind("prolonged: Off-RL's accuracy drops around 14,000 steps, FPA's stays", figure_3),
    4: Kind("the future policy's weight on right ones only collapses, with a spike of the gradient", figure_4),
    5: Kind("lambda: best at 1 and 2", figure_5),
    6: Kind("73 % on MATH500 after about 3 hours (FPA) and 21 (GRPO) on 2 x H200", figure_6),
    8: Kind(
        "Off-RL: wrong trajectories have the larger gradient throughout",
        figure_8,
        "Qwen3-1.7B-Base",
        {OFF_RL: (REFERENCE, NORMS)},
    ),
}


@dataclass(frozen=True)
class Figures(Comparison):
    """The figures, those of which nothing could be drawn among them."""

    runs: list[Run]
    figures: list[PaperFigure]
    model: str
    left_out: list[str]

    name = "figures"
    title = "The paper's figures, of these runs"

    def why_not_beside_others(self) -> str | None:
        return "what is in them stands in the other sections; --compare figures draws them as the paper has them"

    def tables(self) -> list[Table]:
        rows = []
        for one in self.figures:
            methods = dict.fromkeys(line.method for panel in one.drawn for line in panel.lines)
            panels = f"{len(one.drawn)} of {len(one.panels)}"
            rows.append([str(one.number), one.shows, one.model, panels, self.model, ", ".join(methods) or "-"])
        header = ["figure", "what the paper's shows", "its model", "panels here", "model here", "of"]
        return [Table("The paper's figures", header, rows)]

    def notes(self) -> list[str]:
        missing = [f"Figure {one.number}: {what}" for one in self.figures for what in one.missing]
        return [*self.left_out, *missing, *notes_on(self.runs)]

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "model": self.model,
            "figures": [
                {
                    "figure": one.number,
                    "model_of_the_paper_s": one.model,
                    "missing": one.missing,
                    "panels": [
                        {
                            "title": panel.title,
                            "x": panel.x,
                            "y": panel.y,
                            "lines": [
                                {"method": line.method, "side": line.side, "x": line.x.tolist(), "y": line.y.tolist()}
                                for line in panel.lines
                            ],
                        }
                        for panel in one.drawn
                    ],
                }
                for one in self.figures
            ],
        }


def compare(runs: list[Run], data_source: str | None = None) -> Figures:
    """Every figure, as far as the runs go.

    Args:
        runs: those of any number of recipes, settings and seeds, all from one base model.
        data_source: the problem set; None: MATH500, or the first.

    Raises:
        DatasetError: no run, or nothing of any figure.
        MismatchError: runs of several base models, or that cannot be compared.
    """
    runs, left_out = evaluated(runs)
    _require_one_model(runs)
    require_comparable(runs)
    sources = put_as_usual(problem_sets(runs, data_source))
    groups: dict[str, list[Arm]] = {}
    for arm in arms_of(runs):
        groups.setdefault(arm.method, []).append(arm)
    arms, not_chosen = _chosen(groups)
    series = {method: [read_series(run) for run in arm.runs] for method, arm in arms.items()}
    source = MATH500 if MATH500 in sources else sources[0]
    found = []
    for number, kind in FIGURES.items():
        material = Material(runs, arms, series, source, sources, not_chosen, kind.overrides)
        found.append(PaperFigure(number, kind.shows, kind.model, kind.panels(material), material.missing))
    if not any(one.drawn for one in found):
        missing = dict.fromkeys(what for one in found for what in one.missing)
        raise DatasetError(f"nothing of the paper's figures can be drawn: {'; '.join(missing)}")
    return Figures(runs, found, _model_of(runs), left_out + base_notes(runs, [source]))


def _chosen(groups: Mapping[str, list[Arm]]) -> tuple[dict[str, Arm], dict[str, str]]:
    """Method to the runs at the settings that validation chooses, and to why none of them could be chosen."""
    arms, not_chosen = {}, {}
    for method, group in groups.items():
        try:
            arms[method] = choose(group).chosen
        except DatasetError as error:
            not_chosen[method] = f"{method} is left out: {error}"
    return arms, not_chosen


def _model_of(runs: list[Run]) -> str:
    """The base model by name, where a run.json has it."""
    paths = [run.model_path for run in runs if run.model_path and not run.earlier]
    return last_part(paths[0]) if paths else "-"


def _require_one_model(runs: list[Run]) -> None:
    """Raise MismatchError where base models differ, for the paper's own figures are of three."""
    of_model: dict[str | None, list[Run]] = {}
    for run in runs:
        if not run.log:
            of_model.setdefault(run.base_model, []).append(run)
    if len(of_model) > 1:
        here = "; ".join(f"{_model_of(members)}: {members[0].folder}" for members in of_model.values())
        one_model = {kind.model: number for number, kind in FIGURES.items() if kind.model != DEFAULT_MODEL}
        others = ", ".join(f"Figure {number}: {model}" for model, number in one_model.items())
        raise MismatchError(
            f"runs of {len(of_model)} base models ({here}): give one model's a call. {others}, 2 to 6: {DEFAULT_MODEL}"
        )
