"""The base model's accuracy: one measurement, however many runs began with it.

A run evaluates the model that it starts from, at step 0, or takes that from an evaluation which several runs share
(`evaluation.base`). Runs of one base model that were asked and scored alike measure the same thing there, each with
draws of its own; what sets them apart at step 0 is chance. All draws are put together, problem by problem, and stand at
step 0 of each of the runs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fpa_verl.report.statistics.telling import all_draws
from fpa_verl.runs.run import Point, Run
from fpa_verl.runs.validation import best_step
from fpa_verl.tables import percent


def with_pooled_base(runs: Sequence[Run]) -> list[Run]:
    """The runs with the base model's pooled outcomes at step 0; doing so twice changes nothing.

    A run that goes on from another's model starts from other weights, and keeps its own step 0; so does a log, of
    which nobody knows what it measured. The evaluation that a resumed run makes as it goes on is of trained weights,
    and not of step 0.
    """
    measured: dict[str, list[Point]] = defaultdict(list)
    for run in runs:
        for key, point in _measurements(run):
            measured[key].append(point)
    pooled = {key: _pool(own) for key, points in measured.items() if len(own := _once_each(points)) > 1}
    return [_with(run, pooled) for run in runs]


def _measurements(run: Run) -> Iterable[tuple[str, Point]]:
    """What the run measured at step 0, each under what makes two of them measurements of one thing."""
    about = run.info["evaluation"]
    fingerprints = run.info["fingerprints"]
    if run.log or run.earlier or not fingerprints.get("model"):
        return
    sampling = {name: value for name, value in about.items() if name not in ("problem_sets", "samples")}
    for point in run.points:
        if point.step == 0:
            problems = about["problem_sets"].get(point.data_source)
            yield json.dumps([fingerprints, sampling, point.data_source, problems], sort_keys=True), point


def _once_each(points: Sequence[Point]) -> list[Point]:
    """The measurements, a shared one once."""
    return list({point.measured_in or place: point for place, point in enumerate(points)}.values())


def _pool(points: Sequence[Point]) -> Point:
    """All draws of one thing together."""
    if done := next((point for point in points if point.pooled), None):
        return done
    return replace(points[0], problems=dict(all_draws(points)), pooled=tuple(point.accuracy for point in points))


def _with(run: Run, pooled: dict[str, Point]) -> Run:
    # What could not be scored stays the run's own.
    instead = {
        point.data_source: replace(pooled[key], unscored=point.unscored)
        for key, point in _measurements(run)
        if key in pooled
    }
    if not instead:
        return run
    points = [point if point.step else instead.get(point.data_source, point) for point in run.points]
    # Its best model is the one that it kept, by its own step 0.
    chosen = run.chosen_step if run.chosen_step is not None else best_step(run)
    return replace(run, points=points, chosen_step=chosen)


def pooled_points(runs: Iterable[Run], sources: Iterable[str]) -> list[Point]:
    """What stands at step 0 of several of the runs, once each."""
    wanted = set(sources)
    found = {
        (point.data_source, point.pooled): point
        for run in runs
        for point in run.points
        if point.pooled and point.data_source in wanted
    }
    return list(found.values())


def base_notes(runs: Iterable[Run], sources: Sequence[str]) -> list[str]:
    """How often the base model was measured, how far apart, and what stands at step 0; nothing where it was once."""
    points = pooled_points(runs, sources)
    if not points:
        return []
    if len(points) == 1:
        (one,) = points
        return [
            f"The base model was measured {len(one.pooled)} times, {_range(one)}; its pooled accuracy "
            f"{percent(one.accuracy)} stands at step 0 of each"
        ]
    each = "; ".join(
        f"{one.data_source} {len(one.pooled)} times, {_range(one)}, pooled {percent(one.accuracy)}" for one in points
    )
    return [f"The base model was measured on {each}; its pooled accuracy stands at step 0 of each"]


def _range(point: Point) -> str:
    told = [value for value in point.pooled if value == value] or [float("nan")]
    low, high = percent(min(told)), percent(max(told))
    return f"{low} each time" if low == high else f"{low} to {high}"
