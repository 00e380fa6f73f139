"""Which step of a run was the best, by its problem sets of held-out training problems."""

from __future__ import annotations

import math
from statistics import mean

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.schema import is_validation
from fpa_verl.runs.run import Point, Run


def evaluated_steps(run: Run) -> list[int]:
    """The steps at which a run was evaluated, in order.

    Raises:
        DatasetError: it was not evaluated yet.
    """
    steps = sorted({point.step for point in run.points})
    if not steps:
        raise DatasetError(f"{run.folder} has no evaluation yet: wait for one, or leave the run out")
    return steps


def validation_accuracy(run: Run, step: int) -> float:
    """Mean over the problem sets of held-out training problems."""
    return mean(point_at(run, step, source).accuracy for source in validation_sources(run))


def best_step(run: Run) -> int:
    """The step of the highest validation accuracy, the earliest of equals.

    Only steps at which every validation set was evaluated count; where there is none, the last step.
    """
    sources = validation_sources(run)
    measured = {
        step: validation_accuracy(run, step)
        for step in evaluated_steps(run)
        if all(any(point.step == step for point in run.of_source(source)) for source in sources)
    }
    finite = {step: value for step, value in measured.items() if math.isfinite(value)}
    return max(finite, key=lambda step: finite[step]) if finite else evaluated_steps(run)[-1]


def point_at(run: Run, step: int, data_source: str) -> Point:
    """The evaluation on a problem set at a step.

    Raises:
        DatasetError: there is none.
    """
    for point in run.of_source(data_source):
        if point.step == step:
            return point
    raise DatasetError(f"{run.folder} has no evaluation on {data_source} at step {step}: leave the run out")


def validation_sources(run: Run) -> list[str]:
    """The run's problem sets of held-out training problems."""
    return [source for source in run.info["evaluation"]["problem_sets"] if is_validation(source)]
