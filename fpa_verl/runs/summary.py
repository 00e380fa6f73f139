"""What a run came to, in a few lines for whoever waited for it: accuracy, best step, cost; or its rollouts."""

from __future__ import annotations

from fpa_verl.reward.verdicts import MODEL_STATUSES
from fpa_verl.rollouts import RolloutDataset
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
    own, data = run.spending.cost.device_seconds, run.inputs_cost.device_seconds

    def shown(seconds: float) -> str:
        return device_time(seconds, largest=max(own, data))

    if not run.inputs:
        return f"cost: {shown(own)}, start-up and evaluation left out"
    paid = shown(data) if run.data_cost_is_known else "not written down"
    return f"cost: {shown(own)}, start-up and evaluation left out; of what it learns from: {paid}"


def collected(dataset: RolloutDataset) -> list[str]:
    """What a collection, whose held-out problems have no responses, came to: how many are right, how many train."""
    counts, cost = dataset.manifest.counts, dataset.manifest.device_seconds
    responses = counts["trajectories"]
    scored = sum(counts.get(f"status_{status}", 0) for status in MODEL_STATUSES)
    unscored = responses - scored
    right, cut = (
        percent(counts.get("status_right", 0) / max(1, scored)),
        percent(counts["truncated"] / max(1, responses)),
    )
    of = f" of the {scored:,} scored" if unscored else ""
    lines = [
        f"{responses:,} responses to {counts['groups']:,} problems: {right} % right{of}, {cut} % cut off",
        f"{counts['trainable_trajectories']:,} train, to {counts['groups_mixed']:,} problems with right and wrong "
        f"ones; {counts['groups_all_right']:,} have only right ones, {counts['groups_all_wrong']:,} only wrong ones",
        *_traces(counts),
        *([f"{unscored:,} could not be scored: see `fpa-verl data check {dataset.folder}`"] if unscored else []),
        f"cost: {device_time(cost, largest=cost)}, start-up left out",
    ]
    return [f"{dataset.folder}:", *(f"  {line}" for line in lines)]


def _traces(counts: dict[str, int]) -> list[str]:
    """Of a model that thinks before it answers: how long, and in which modes it was asked."""
    lines = []
    if empty := counts.get("mode_empty"):
        thinking = counts.get("mode_thinking", 0)
        also = " (a problem counts once in each mode)" if thinking else ""
        lines.append(f"{thinking:,} were sampled thinking, {empty:,} with an empty trace{also}")
    if traced := counts.get("with_trace"):
        lines.append(
            f"{traced:,} have a trace, {counts['trace_tokens'] / traced:,.0f} tokens on average; "
            f"{counts['cut_off_in_trace']:,} were cut off within it"
        )
    return lines


def device_time(seconds: float, largest: float) -> str:
    """Device-time in the unit that fits the largest of those shown together."""
    unit = time_unit(largest / SECONDS_PER_HOUR)
    return f"{seconds / SECONDS_PER_HOUR * unit.an_hour:,.2f} device-{unit.word}"
