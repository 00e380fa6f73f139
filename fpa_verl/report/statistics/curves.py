"""Accuracy on the cost axes: of one run, and of a method over its seeds.

S seeds (runs of the method), E evaluations that all of them made, P problems. In front of a run that goes on from
another stand the evaluations of that one, up to where it was taken over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fpa_verl.errors import DatasetError
from fpa_verl.report.statistics.arms import Arm, labels
from fpa_verl.runs.ledger import Cost
from fpa_verl.runs.names import RUN_FILE
from fpa_verl.runs.record import run_fingerprint
from fpa_verl.runs.run import Point, Run, read_run
from fpa_verl.runs.summary import SECONDS_PER_HOUR

Axis = Literal["device", "wall"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CurvePoint:
    """One evaluation on the cost axes.

    Attributes:
        device_hours, wall_hours: generation of the dataset included, start-up and evaluation left out.
        accuracy, standard_error: fractions of 1.
    """

    step: int
    device_hours: float
    wall_hours: float
    accuracy: float
    standard_error: float


@dataclass(frozen=True)
class Curve:
    """One run on the cost axes."""

    run: str
    points: list[CurvePoint]

    @property
    def best(self) -> CurvePoint:
        """The first of the highest accuracies; evaluations that measured nothing (NaN) do not count."""
        return max(self.points, key=lambda point: -1.0 if np.isnan(point.accuracy) else point.accuracy)

    def device_hours_to(self, target: float) -> float | None:
        """Cost of the first evaluation at or above `target`; None where it was never reached.

        Evaluations are not interpolated: what lies between two of them was not measured.
        """
        return next((point.device_hours for point in self.points if point.accuracy >= target), None)


def paid_by(run: Run, point: Point) -> Cost:
    """What the accuracy at `point` has cost, the dataset included.

    Step 0 is the model that the run began with, which neither its dataset nor its training has improved: a base model
    stands at no cost, that of an earlier run at what it took.
    """
    if not point.step:
        return run.start_cost
    return run.inputs_cost + point.cost


@dataclass(frozen=True)
class Evaluated:
    """One evaluation, and what it had cost by then."""

    point: Point
    paid: Cost


# The run's own steps are (0, STEP), those of the one that it goes on from (-1, STEP), and so on.
Way = dict[tuple[int, int], Evaluated]


def run_before(run: Run, data_source: str) -> Run | str | None:
    """The run that one goes on from, whose curve stands in front of its own; or in words why that is not shown.

    None of one that begins with a base model.
    """
    earlier = run.earlier
    if earlier is None:
        return None
    folder = Path(earlier.folder)
    if not (folder / RUN_FILE).exists():
        return f"{folder} is not there any more"
    found = read_run(folder)
    if run_fingerprint(earlier.folder, found.info) != earlier.fingerprint:
        return f"{folder} holds another run now"
    if _questions(run, data_source) != _questions(found, data_source):
        return f"{folder} was asked or scored otherwise"
    return found if found.has_whole_cost else f"{folder} is without the cost of some steps"


def _questions(run: Run, data_source: str) -> tuple[Any, ...]:
    """What was asked, how, and who scored it; how often may differ."""
    evaluation, fingerprints = run.info["evaluation"], run.info["fingerprints"]
    sampling = {name: value for name, value in evaluation.items() if name not in ("problem_sets", "samples")}
    asked = evaluation["problem_sets"].get(data_source)
    return asked, sampling, fingerprints.get("scorer"), fingerprints.get("template")


def way_of(run: Run, data_source: str) -> Way:
    """What a run evaluated, and before it those that it goes on from, as far as `run_before` finds them."""
    own = {(0, point.step): Evaluated(point, paid_by(run, point)) for point in run.of_source(data_source)}
    found = run_before(run, data_source)
    if run.earlier is None or not isinstance(found, Run):
        return own
    # The model that was handed over is step 0 of this run, if that was evaluated.
    until = run.earlier.about["step"] - ((0, 0) in own)
    before = way_of(found, data_source).items()
    return {(before_it - 1, step): one for (before_it, step), one in before if before_it or step <= until} | own


def curve_of(run: Run, data_source: str) -> Curve:
    """Accuracy of one run against its cost, the dataset's in front."""

    def place(one: Evaluated) -> CurvePoint:
        point, paid = one.point, one.paid
        device_hours, wall_hours = paid.device_seconds / SECONDS_PER_HOUR, paid.wall_seconds / SECONDS_PER_HOUR
        return CurvePoint(point.step, device_hours, wall_hours, point.accuracy, point.standard_error)

    return Curve(run.name, [place(one) for _, one in sorted(way_of(run, data_source).items())])


@dataclass(frozen=True)
class MethodCurve:
    """The seeds of one method, at the steps at which all of them were evaluated.

    Attributes:
        runs: S of them.
        points: S lists of E.
        steps: (E,).
        earlier: how many of the E, the first, are of runs that the method's go on from, whose steps those are.
        device_hours, wall_hours: (S, E), as in `CurvePoint`.
        right: (S, E, P) share of right samples; 0 where a problem was not sampled.
        sampled: (S, E, P) whether it was.
        data: hours that the dataset had cost before a run began; mean over the runs.
        logged: (S, E) accuracies where no outcomes of single problems are at hand: then there is no interval.
    """

    name: str
    runs: list[Run]
    points: list[list[Point]]
    steps: NDArray[np.int64]
    earlier: int
    device_hours: Floats
    wall_hours: Floats
    right: Floats
    sampled: NDArray[np.bool_]
    data: dict[Axis, float]
    logged: Floats | None = None

    @property
    def generates(self) -> bool:
        return self.runs[0].generates

    @property
    def begins_at_base(self) -> bool:
        """Whether the first evaluation is of a base model, which has cost nothing."""
        return not self.points[0][0].step and not self.device_hours[:, 0].any()

    def hours(self, axis: Axis) -> Floats:
        """(S, E) cost on one of the axes."""
        return self.device_hours if axis == "device" else self.wall_hours

    def mean_hours(self, axis: Axis) -> Floats:
        """(E,) mean over seeds."""
        return self.hours(axis).mean(axis=0)

    def accuracies(self) -> Floats:
        """(S, E) accuracy of every seed; NaN where nothing was sampled."""
        if self.logged is not None:
            return self.logged
        sampled = self.sampled.sum(axis=-1)
        return np.divide(self.right.sum(axis=-1), sampled, out=np.full(sampled.shape, np.nan), where=sampled > 0)

    def mean_accuracy(self) -> Floats:
        """(E,) mean over seeds."""
        return self.accuracies().mean(axis=0)


def problem_ids(ways: Iterable[Way]) -> list[str]:
    """Every problem that any evaluation of any run was asked."""
    return sorted({key for way in ways for one in way.values() for key in one.point.problems})


def method_curve(name: str, runs: list[Run], data_source: str) -> MethodCurve:
    """Line up the seeds of a method, over all problems that they were asked.

    Raises:
        DatasetError: there is no step at which all of them were evaluated.
    """
    ways = [way_of(run, data_source) for run in runs]
    return _lined_up(name, runs, ways, data_source, problem_ids(ways))


def _lined_up(name: str, runs: list[Run], ways: list[Way], data_source: str, problems: list[str]) -> MethodCurve:
    places = sorted(set.intersection(*map(set, ways)))
    if not any(not before for before, _ in places):
        raise DatasetError(
            f"{name}: {', '.join(run.name for run in runs)} were never evaluated at the same step on {data_source}: "
            "report them apart"
        )
    lined_up = [[way[place] for place in places] for way in ways]
    paid = [[(one.paid.device_seconds, one.paid.wall_seconds) for one in line] for line in lined_up]
    device, wall = np.moveaxis(np.array(paid) / SECONDS_PER_HOUR, -1, 0)
    points = [[one.point for one in line] for line in lined_up]
    logged = None
    if any(run.log for run in runs):
        logged = np.array([[point.accuracy for point in line] for line in points])
    return MethodCurve(
        name,
        runs,
        points,
        np.array([step for _, step in places]),
        sum(before < 0 for before, _ in places),
        device,
        wall,
        *_outcomes(points, problems),
        _hours_of_data(runs),
        logged,
    )


def _outcomes(points: list[list[Point]], problems: list[str]) -> tuple[Floats, NDArray[np.bool_]]:
    """(S, E, P) share of right samples, and whether there were any."""
    column = {key: place for place, key in enumerate(problems)}
    shape = len(points), len(points[0]), len(problems)
    right, sampled = np.zeros(shape), np.zeros(shape, dtype=bool)
    for s, line in enumerate(points):
        for e, point in enumerate(line):
            asked = [(column[key], r / n) for key, (r, n) in point.problems.items() if n]
            if asked:
                places, shares = zip(*asked, strict=True)
                right[s, e, places], sampled[s, e, places] = shares, True
    return right, sampled


def _hours_of_data(runs: list[Run]) -> dict[Axis, float]:
    return {
        "device": float(np.mean([run.data_cost.device_seconds for run in runs])) / SECONDS_PER_HOUR,
        "wall": float(np.mean([run.data_cost.wall_seconds for run in runs])) / SECONDS_PER_HOUR,
    }


def method_curves(arms: list[Arm], data_source: str) -> list[MethodCurve]:
    """One curve an arm, over the same problems in the same order."""
    ways = [[way_of(run, data_source) for run in one.runs] for one in arms]
    problems = problem_ids(way for of_arm in ways for way in of_arm)
    return [
        _lined_up(name, one.runs, of_arm, data_source, problems)
        for name, one, of_arm in zip(labels(arms), arms, ways, strict=True)
    ]
