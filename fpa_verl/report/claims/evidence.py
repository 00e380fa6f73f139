"""Which runs speak for a part of a statement, and their evaluations on all problem sets put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import numpy as np

from fpa_verl.commands import Command
from fpa_verl.errors import DatasetError
from fpa_verl.evaluation.seeds import Array
from fpa_verl.report.claims.statements import SEEDS, Demand, Part, command
from fpa_verl.report.statistics.arms import Arm, choose, finds_lambda, flat, one_a_seed
from fpa_verl.runs.run import Point, Run

# The name under which several problem sets are put together.
TOGETHER = "all problem sets"


@dataclass(frozen=True)
class Missing:
    """What stands between the runs and a decision.

    Attributes:
        command: what would run it; empty where no run is missing.
    """

    method: str
    what: str
    command: str = ""


class UnsuitedError(DatasetError):
    """Runs that are there and decide nothing, and of which method that is."""

    def __init__(self, method: str, what: str) -> None:
        super().__init__(what)
        self.method = method


def candidates(part: Part, arms: list[Arm]) -> tuple[list[Arm], list[Arm]]:
    """The arms of the part's method, at its lambda, and of the one that it is measured by."""
    arms = [arm for arm in arms if not finds_lambda(arm.settings)]
    own = [arm for arm in arms if arm.method == part.method and part.lam in (None, trained_lambda(arm.runs[0]))]
    return own, [arm for arm in arms if arm.method == part.against]


def sides(part: Part, own: list[Arm], others: list[Arm]) -> tuple[Arm, Arm | None]:
    """Of the `candidates`, the runs of the part's method and of the other one, one a seed.

    They differ in nothing but what the part says. Of several settings the accuracy on the validation problems chooses,
    as in `--compare objectives`.

    Raises:
        UnsuitedError: no two agree; or there are several settings, and no validation accuracy to choose by.
    """
    if not others:
        return one_a_seed(_chosen(own)), None
    if part.may_differ is not None:
        own, others = _paired(part, own, others)
    return one_a_seed(_chosen(own)), one_a_seed(_chosen(others))


def _paired(part: Part, own: list[Arm], others: list[Arm]) -> tuple[list[Arm], list[Arm]]:
    """The arm of the method, of those with a partner, and its partners."""
    partners = [(arm, [other for other in others if not unlike(part, arm, other)]) for arm in own]
    suited = [(arm, found) for arm, found in partners if found]
    if not suited:
        nearest = min((unlike(part, arm, other) for arm in own for other in others), key=len)
        raise UnsuitedError(
            part.method,
            f"no run to stand beside {part.against}, from which it may differ in {', '.join(part.may_differ or ())} "
            f"alone: {'; '.join(nearest)} ({part.method} first): train one of them so that they fit",
        )
    chosen = _chosen([arm for arm, _ in suited])
    return [chosen], next(found for arm, found in suited if arm is chosen)


# What a setting must be, given the other method's.
_DEMANDS: dict[Demand, Callable[[float | None, float | None], bool]] = {
    "lower": lambda own, other: own is not None and other is not None and own < other,
    # A run that does not say it has none of it.
    "above 0": lambda own, other: (own or 0.0) > 0 and not other,
}


def unlike(part: Part, own: Arm, other: Arm) -> list[str]:
    """Why two arms do not stand beside each other: each setting in the way, with both values."""
    mine, theirs = flat(own.settings), flat(other.settings)
    found = [
        f"{name} is {_said(mine, name)} and {_said(theirs, name)}"
        for name in dict.fromkeys([*mine, *theirs])
        if name.split(".")[0] not in (part.may_differ or ()) and mine.get(name) != theirs.get(name)
    ]
    for name, demand in part.demands:
        if not _DEMANDS[demand](mine.get(name), theirs.get(name)):
            found.append(f"{name} is {_said(mine, name)} and {_said(theirs, name)}, and must be {demand}")
    return found


def _said(settings: dict[str, Any], name: str) -> str:
    value = settings.get(name)
    return "not set" if value is None else str(value)


def _chosen(arms: list[Arm]) -> Arm:
    try:
        return choose(arms).chosen
    except DatasetError as error:
        method = arms[0].method
        raise UnsuitedError(method, str(error).removeprefix(f"{method} was ")) from error


def trained_lambda(run: Run) -> float | None:
    """The lambda that a run was trained with; None for an objective without one."""
    found: float | None = run.training.get("hyper_parameters", {}).get("lam")
    return found


def missing_seeds(method: str, lam: float | None, runs: list[Run], beside: Command) -> list[Missing]:
    """What a method lacks of `SEEDS` seeds; of runs that there are already, at the lambda of those.

    Args:
        method: a recipe.
        lam: its lambda where there is no run yet.
        runs: those of it.
        beside: the command of any run that it will be compared with.
    """
    lacking = SEEDS - len(runs)
    if lacking <= 0:
        return []
    lam = trained_lambda(runs[0]) if runs else lam
    used = {run.info.get("seed") for run in runs}
    seeds = list(islice((seed for seed in count() if seed not in used), lacking))
    name = method if lam is None else f"{method} at lambda {lam:g}"
    what = f"{lacking} of {SEEDS} seeds missing" if runs else "no finished run"
    return [Missing(name, what, command(method, lam, seeds, beside))]


def together(run: Run, sources: list[str]) -> Run:
    """The run with one problem set, `TOGETHER`: the problems of all of `sources`, told apart by source and id.

    Raises:
        DatasetError: there is no step at which it was evaluated on all of them.
    """
    by_source = [{point.step: point for point in run.of_source(source)} for source in sources]
    steps = sorted(set.intersection(*map(set, by_source)))
    if not steps:
        raise DatasetError(
            f"{run.folder} was never evaluated on {', '.join(sources)} at the same step: choose one of them with --on"
        )
    return replace(run, points=[_point([points[step] for points in by_source]) for step in steps])


def _point(points: list[Point]) -> Point:
    if len(points) == 1:
        return replace(points[0], data_source=TOGETHER)
    problems = {f"{one.data_source}/{key}": outcome for one in points for key, outcome in one.problems.items()}
    return Point(points[0].step, TOGETHER, points[0].cost, problems, sum(one.unscored for one in points))


def shares(*groups: list[Point]) -> list[Array]:
    """(S, P) shares of right samples of each group of S evaluations, over the P problems that all of them sampled.

    Raises:
        DatasetError: there is no such problem.
    """
    sampled = [{key for key, (_, n) in point.problems.items() if n} for group in groups for point in group]
    shared = sorted(set.intersection(*sampled))
    if not shared:
        raise DatasetError("no problem was sampled in all evaluations: evaluate the runs on the same problem set")

    def row(point: Point) -> list[float]:
        return [right / n for right, n in (point.problems[key] for key in shared)]

    return [np.array([row(point) for point in group]) for group in groups]
