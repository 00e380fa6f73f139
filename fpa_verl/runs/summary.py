"""What a run came to, in a few lines for whoever waited for it: accuracy, best step, cost."""

from __future__ import annotations

from fpa_verl.runs.names import BEST_MODEL
from fpa_verl.runs.run import Run
from fpa_verl.runs.validation import best_step, evaluated_steps, point_at, validation_accuracy, why_no_best_model
from fpa_verl.tables import percent, time_unit

SECONDS_PER_HOUR = 3600


def summary(run: Run, *, keeps_best: bool = True) -> list[str]:
    """The lines, without an end of line.

    Args:
        run: finished.
        keeps_best: whether it was to keep its best model.
    """
    early = ", stopped early" if run.spending.stopped_early else ""
    lines = [f"{run.folder}: {run.spending.last_step:,} steps{early}"]
    lines += [f"  {line}" for line in (*_accuracies(run), *([_best(run)] if keeps_best else []), _cost(run))]
    return lines


def _accuracies(run: Run) -> list[str]:
    """Of each problem set, the first evaluation and the last, with standard errors."""
    lines = []
    for source in run.info["evaluation"]["problem_sets"]:
        steps = [point.step for point in run.of_source(source)]
        if not steps:
            continue
        shown = [_measured(run, source, step) for step in dict.fromkeys((steps[0], steps[-1]))]
        lines.append(f"{source}: {', '.join(shown)}")
    return lines


def _measured(run: Run, source: str, step: int) -> str:
    point = point_at(run, step, source)
    when = f"after step {step:,}" if step else "before training"
    return f"{percent(point.accuracy)} ± {percent(point.standard_error)} % {when}"


def _best(run: Run) -> str:
    if reason := why_no_best_model(run):
        return reason.removeprefix(f"{run.folder}: ")
    best = best_step(run)
    before = f", {percent(validation_accuracy(run, 0))} % before training" if 0 in evaluated_steps(run) else ""
    return (
        f"best on the validation problems: step {best:,} ({percent(validation_accuracy(run, best))} %{before}); its "
        f"model: {run.folder / BEST_MODEL}"
    )


def _cost(run: Run) -> str:
    if run.missing_cost:
        return f"cost: not known, {run.missing_cost}"
    own, data = run.spending.cost.device_seconds, run.data_cost.device_seconds
    unit = time_unit(max(own, data) / SECONDS_PER_HOUR)

    def shown(seconds: float) -> str:
        return f"{seconds / SECONDS_PER_HOUR * unit.an_hour:,.2f} device-{unit.word}"

    if not run.inputs:
        return f"cost: {shown(own)}, start-up and evaluation left out"
    paid = shown(data) if run.data_cost_is_known else "not written down"
    return f"cost: {shown(own)}, start-up and evaluation left out; of what it learns from: {paid}"
