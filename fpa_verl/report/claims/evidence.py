"""Which runs speak for a part of a statement, and their evaluations on all problem sets put together."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import numpy as np

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation.seeds import Array
from fpa_verl.report.claims.statements import SEEDS, Part, command
from fpa_verl.report.statistics.arms import Arm, choose, one_a_seed
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


def sides(part: Part, arms: list[Arm]) -> tuple[Arm | None, Arm | None]:
    """The runs of the part's method and of the one that it is measured by, one a seed; None where there are none.

    Of several settings of a method the accuracy on the validation problems chooses, as in `--compare objectives`.

    Raises:
        DatasetError: there are several settings, and no validation accuracy to choose by.
    """
    own = [arm for arm in arms if arm.method == part.method and part.lam in (None, _lambda(arm))]
    others = [arm for arm in arms if arm.method == part.against]
    if part.lam is None or not own:
        return _chosen(own), _chosen(others)
    # Lambda is what is asked about: nothing else may differ.
    pairs = [(arm, other) for arm in own for other in others if _but_lambda(arm) == _but_lambda(other)]
    arm = _chosen_from([arm for arm, _ in pairs] or own)
    return one_a_seed(arm), _chosen([other for one, other in pairs if one is arm])


def _chosen(arms: list[Arm]) -> Arm | None:
    return one_a_seed(_chosen_from(arms)) if arms else None


def _chosen_from(arms: list[Arm]) -> Arm:
    return choose(arms).chosen


def _lambda(arm: Arm) -> Any:
    return arm.settings.get("hyper_parameters", {}).get("lam")


def _but_lambda(arm: Arm) -> str:
    """All other settings. Off-RL has no reference, so how a cache approximates it is none of its settings."""
    settings = json.loads(json.dumps(arm.settings))
    settings.get("hyper_parameters", {}).pop("lam", None)
    for name in ("objective", "reference"):
        settings.pop(name, None)
    return json.dumps(settings, sort_keys=True)


def missing_seeds(method: str, lam: float | None, runs: list[Run]) -> list[Missing]:
    """What a method lacks of `SEEDS` seeds."""
    lacking = SEEDS - len(runs)
    if lacking <= 0:
        return []
    used = {run.info.get("seed") for run in runs}
    seeds = list(islice((seed for seed in count() if seed not in used), lacking))
    name = method if lam is None else f"{method} at lambda {lam:g}"
    what = f"{lacking} of {SEEDS} seeds missing" if runs else "no finished run"
    return [Missing(name, what, command(method, lam, seeds))]


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
