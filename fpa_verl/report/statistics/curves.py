"""Accuracy on the cost axes: of one run, and of a method over its seeds.

S seeds (runs of the method), E evaluations that all of them made, P problems.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fpa_verl.errors import DatasetError
from fpa_verl.report.statistics.arms import Arm, labels
from fpa_verl.runs.ledger import Cost
from fpa_verl.runs.names import RUN_FILE
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
    return run.data_cost + point.cost


def curve_of(run: Run, data_source: str) -> Curve:
    """Accuracy of one run against its cost, the dataset's in front."""

    def place(point: Point) -> CurvePoint:
        paid = paid_by(run, point)
        device_hours, wall_hours = paid.device_seconds / SECONDS_PER_HOUR, paid.wall_seconds / SECONDS_PER_HOUR
        return CurvePoint(point.step, device_hours, wall_hours, point.accuracy, point.standard_error)

    return Curve(run.name, [place(point) for point in run.of_source(data_source)])


@dataclass(frozen=True)
class MethodCurve:
    """The seeds of one method, at the steps at which all of them were evaluated.

    Attributes:
        runs: S of them.
        steps: (E,).
        device_hours, wall_hours: (S, E), as in `CurvePoint`.
        right: (S, E, P) share of right samples; 0 where a problem was not sampled.
        sampled: (S, E, P) whether it was.
        data: hours that the dataset had cost before a run began; mean over the runs.
        logged: (S, E) accuracies where no outcomes of single problems are at hand: then there is no interval.
    """

    name: str
    runs: list[Run]
    steps: NDArray[np.int64]
    device_hours: Floats
    wall_hours: Floats
    right: Floats
    sampled: NDArray[np.bool_]
    data: dict[Axis, float]
    logged: Floats | None = None

    @property
    def generates(self) -> bool:
        return self.runs[0].generates

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


@dataclass(frozen=True)
class Before:
    """What the runs had reached that a method's go on from, mean over the seeds at the steps that all of them have.

    Attributes:
        device_hours, wall_hours, accuracy: (E,).
    """

    device_hours: Floats
    wall_hours: Floats
    accuracy: Floats

    def hours(self, axis: Axis) -> Floats:
        return self.device_hours if axis == "device" else self.wall_hours


def before(curve: MethodCurve, data_source: str) -> Before | None:
    """The curve up to where a method took over; None where it starts from a base model, or that is not at hand."""
    seeds = [_of_earlier(run, data_source) for run in curve.runs]
    if not all(seeds):
        return None
    steps = sorted(set.intersection(*map(set, seeds)))
    shape = (len(seeds), len(steps))
    parts = [
        np.array([[getattr(seed[step], name) for step in steps] for seed in seeds]).reshape(shape).mean(axis=0)
        for name in ("device_hours", "wall_hours", "accuracy")
    ]
    return Before(*parts) if steps else None


def _of_earlier(run: Run, data_source: str) -> dict[int, CurvePoint]:
    """Step to evaluation of the run that another goes on from, up to there, where it was asked the same."""
    earlier = run.earlier
    if earlier is None or not (Path(earlier.folder) / RUN_FILE).exists():
        return {}
    found = read_run(Path(earlier.folder))
    mine, other = (one.info["evaluation"]["problem_sets"].get(data_source) for one in (run, found))
    points = curve_of(found, data_source).points if mine == other else []
    return {point.step: point for point in points if point.step <= earlier.about["step"]}


def problem_ids(runs: list[Run], data_source: str) -> list[str]:
    """Every problem that any evaluation of any run was asked."""
    return sorted({key for run in runs for point in run.of_source(data_source) for key in point.problems})


def method_curve(name: str, runs: list[Run], data_source: str, problems: list[str]) -> MethodCurve:
    """Line up the seeds of a method.

    Raises:
        DatasetError: there is no step at which all of them were evaluated.
    """
    by_step = [{point.step: point for point in run.of_source(data_source)} for run in runs]
    steps = sorted(set.intersection(*map(set, by_step)))
    if not steps:
        raise DatasetError(
            f"{name}: {', '.join(run.name for run in runs)} were never evaluated at the same step on {data_source}: "
            "report them apart"
        )
    column = {key: place for place, key in enumerate(problems)}
    shape = len(runs), len(steps), len(problems)
    right, sampled = np.zeros(shape), np.zeros(shape, dtype=bool)
    device, wall = np.zeros(shape[:2]), np.zeros(shape[:2])
    for s, run in enumerate(runs):
        for e, step in enumerate(steps):
            point = by_step[s][step]
            paid = paid_by(run, point)
            device[s, e], wall[s, e] = paid.device_seconds, paid.wall_seconds
            asked = [(column[key], r / n) for key, (r, n) in point.problems.items() if n]
            if asked:
                places, shares = zip(*asked, strict=True)
                right[s, e, places], sampled[s, e, places] = shares, True
    data: dict[Axis, float] = {
        "device": float(np.mean([run.data_cost.device_seconds for run in runs])) / SECONDS_PER_HOUR,
        "wall": float(np.mean([run.data_cost.wall_seconds for run in runs])) / SECONDS_PER_HOUR,
    }
    hours = (device / SECONDS_PER_HOUR, wall / SECONDS_PER_HOUR)
    logged = None
    if any(run.log for run in runs):
        logged = np.array([[by_step[s][step].accuracy for step in steps] for s in range(len(runs))])
    return MethodCurve(name, runs, np.array(steps), *hours, right, sampled, data, logged)


def method_curves(arms: list[Arm], data_source: str) -> list[MethodCurve]:
    """One curve an arm, over the same problems in the same order."""
    problems = problem_ids([run for one in arms for run in one.runs], data_source)
    names = labels(arms)
    return [method_curve(n, one.runs, data_source, problems) for n, one in zip(names, arms, strict=True)]
