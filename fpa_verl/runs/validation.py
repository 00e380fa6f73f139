"""Which step of a run was the best, by its problem sets of held-out training problems."""

from __future__ import annotations

import math
from statistics import mean

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.schema import is_validation
from fpa_verl.runs.names import BEST_MODEL, SNAPSHOTS_FOLDER
from fpa_verl.runs.run import Point, Run
from fpa_verl.tables import percent


def evaluated_steps(run: Run) -> list[int]:
    """The steps at which a run was evaluated, in order.

    Raises:
        DatasetError: it was not evaluated yet.
    """
    steps = sorted({point.step for point in run.points})
    if not steps:
        raise DatasetError(f"{run.folder} has no evaluation yet: wait for one, or leave the run out")
    return steps


def latest_accuracy(run: Run) -> tuple[int, float]:
    """The last step that was evaluated, and the accuracy there on the validation sets.

    Of a run that has no such sets it is that on the first of its others.

    Raises:
        DatasetError: none was.
    """
    measured = _measured(run)
    if measured:
        step = max(measured)
        return step, measured[step]
    source = next(iter(run.info["evaluation"]["problem_sets"]))
    step = evaluated_steps(run)[-1]
    return step, point_at(run, step, source).accuracy


def validation_accuracy(run: Run, step: int) -> float:
    """Mean over the problem sets of held-out training problems."""
    return mean(point_at(run, step, source).accuracy for source in validation_sources(run))


def best_step(run: Run, *, trained: bool = False) -> int:
    """The step of the highest validation accuracy, the earliest of equals.

    Only steps at which every validation set was evaluated count; where there is none, the last step. A run chooses by
    what it measured itself.

    Args:
        run: that was evaluated.
        trained: leave out step 0, the model that it began with, which training has made neither better nor worse.
    """
    if run.chosen_step is not None and (run.chosen_step or not trained):
        return run.chosen_step
    finite = {step: accuracy for step, accuracy in _measured(run).items() if step or not trained}
    return max(finite, key=lambda step: finite[step]) if finite else evaluated_steps(run)[-1]


def _measured(run: Run) -> dict[int, float]:
    """Step to validation accuracy, where all validation sets were evaluated and could be scored."""
    sources = validation_sources(run)
    measured = {
        step: validation_accuracy(run, step)
        for step in sorted({point.step for point in run.points})
        if sources and all(any(point.step == step for point in run.of_source(source)) for source in sources)
    }
    return {step: value for step, value in measured.items() if math.isfinite(value)}


def why_no_best_model(run: Run) -> str:
    """Why a run that keeps its best model has left none, what that means and what to do; empty where it left one.

    The model that a run begins with, step 0, takes part and is not kept: it is there already.
    """
    if (run.folder / BEST_MODEL).is_dir():
        return ""
    if not run.info["evaluation"]["problem_sets"]:
        if any((run.folder / SNAPSHOTS_FOLDER).glob("step_*")):
            models = run.folder / SNAPSHOTS_FOLDER
            return f"{run.folder}: no {BEST_MODEL}/, for nothing was evaluated; the models that it kept: {models}"
        return (
            f"{run.folder}: no {BEST_MODEL}/, for nothing was evaluated: snapshots.every=50 keeps the model every 50 "
            f"steps and at the end, in {SNAPSHOTS_FOLDER}/"
        )
    if not validation_sources(run):
        return (
            f"{run.folder}: no {BEST_MODEL}/, for there were no held-out problems to choose by: "
            "validation.fraction=0.05 holds some out, and data.val_files names their file, ROLLOUTS/validation.parquet"
        )
    after = {step: value for step, value in _measured(run).items() if step}
    if not after:
        return (
            f"{run.folder}: no {BEST_MODEL}/, for no step after the start was validated: trainer.test_freq=10 does so "
            "every ten steps"
        )
    best = max(after, key=lambda step: after[step])
    if best_step(run):
        return (
            f"{run.folder}: step {best_step(run)} was the best on the validation problems, and its model is not in "
            f"{BEST_MODEL}/: train again, or go on from a checkpoint before it"
        )
    return (
        f"{run.folder}: no {BEST_MODEL}/, for none of {len(after)} validations beat the model that the run began with "
        f"({percent(validation_accuracy(run, 0))} %; the highest of them {percent(after[best])} %, at step {best}): by "
        f"its validation problems, training did not help. Use {run.model_path or 'that model'}, or train longer or "
        "with other settings; of more validation problems (validation.fraction) small gains are seen sooner"
    )


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
