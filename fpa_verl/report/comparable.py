"""When runs may stand side by side, and what a reader must know where they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.report.statistics.base import with_pooled_base
from fpa_verl.rollouts.schema import THINKING, is_validation, mode_of
from fpa_verl.runs.inputs import DATASET, REFERENCE_CACHE, RUN, everything_owed
from fpa_verl.runs.run import UNKNOWN_DEVICE, Run

# Inputs of a run in words, and what to do about one that was made elsewhere.
WHAT = {DATASET: "data", REFERENCE_CACHE: "a reference cache", RUN: "an earlier run"}
REMEDY = {
    DATASET: "Collect the data on the device that trains",
    REFERENCE_CACHE: "Make the cache on the device that trains",
    RUN: "Train both on one kind of device",
}


def require_runs(runs: list[Run]) -> None:
    """Raise DatasetError where there is no run."""
    if not runs:
        raise DatasetError("no runs: give run directories, a folder that holds some, or logs of verl")


def require_comparable(runs: list[Run]) -> None:
    """Refuse runs that do not answer the same question, naming what differs.

    Raises:
        DatasetError: there is no run, or the device of one is not known.
        MismatchError: base model, tokenizer, template, scorer, evaluation set, its sampling, or the
            kind of device differ.
    """
    require_runs(runs)
    # A log records none of it but how many samples a problem had.
    first, *others = [run for run in runs if not run.log] or runs
    for run in others:
        if first.base_model != run.base_model:
            raise _mismatch(first, run, "base model", first.base_model, run.base_model)
        for name, wanted, found in _differing(*(one.info["fingerprints"] for one in (first, run))):
            if name != "model":
                raise _mismatch(first, run, name, wanted, found)
        for name, wanted, found in _differing(*(one.info["evaluation"] for one in (first, run))):
            label = "evaluation set" if name == "problem_sets" else f"evaluation's {name}"
            raise _mismatch(first, run, label, wanted, found)
    for run in runs:
        # A log knows only of the problem sets whose accuracy it has.
        mine, other = (one.info["evaluation"].get("samples") or {} for one in (first, run))
        for source, count in other.items() if run.log else ():
            if mine.get(source, count) != count:
                raise _mismatch(first, run, f"evaluation's samples of {source}", mine[source], count)
    require_same_device(runs)


def require_same_questions(runs: list[Run]) -> None:
    """Refuse runs that were asked or scored differently; their models and numbers of samples may differ.

    Raises:
        MismatchError: scorer, template, a problem set of the same name, or how it is sampled differ.
    """
    first = runs[0]
    for run in runs[1:]:
        for name in ("scorer", "template"):
            wanted, found = (one.info["fingerprints"].get(name) for one in (first, run))
            if wanted != found:
                raise _mismatch(first, run, name, wanted, found)
        mine, other = first.info["evaluation"], run.info["evaluation"]
        for name, wanted, found in _differing(mine, other):
            if name not in ("problem_sets", "samples"):
                raise _mismatch(first, run, f"evaluation's {name}", wanted, found)
        for name, wanted in mine["problem_sets"].items():
            found = other["problem_sets"].get(name, wanted)
            if found != wanted:
                raise _mismatch(first, run, f"problem set {name}", wanted, found)


def require_same_origin(runs: list[Run]) -> None:
    """Refuse runs of different base models, and what `require_same_questions` refuses of any two of them.

    Raises:
        MismatchError: base model, tokenizer, scorer, template, a problem set of the same name, or how it is sampled
            differ. Devices, problem sets and numbers of samples may.
    """
    first = runs[0]
    for run in runs[1:]:
        if first.base_model != run.base_model:
            raise _mismatch(first, run, "base model", first.base_model, run.base_model)
        wanted, found = (one.info["fingerprints"].get("tokenizer") for one in (first, run))
        if wanted != found:
            raise _mismatch(first, run, "tokenizer", wanted, found)
    for place in range(len(runs)):
        require_same_questions(runs[place:])


def require_same_device(runs: list[Run]) -> None:
    """Refuse runs whose device-seconds are of different devices, or of one that nobody knows."""
    for run in runs if len(runs) > 1 else ():
        if run.info["hardware"]["device"] == UNKNOWN_DEVICE:
            raise DatasetError(
                f"{run.folder} does not say on which device it ran, and hours of different ones are not compared: "
                "give --device 'NVIDIA H200', or whatever it was"
            )
    for run in runs[1:]:
        wanted, found = (one.info["hardware"]["device"] for one in (runs[0], run))
        if wanted != found:
            raise _mismatch(runs[0], run, "kind of device", wanted, found)


def _differing(mine: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Names of what is not the same, with both values; what only one has is unusual."""
    for name in dict.fromkeys([*mine, *other]):
        if mine.get(name) != other.get(name):
            yield name, mine.get(name), other.get(name)


def _mismatch(first: Run, run: Run, what: str, wanted: Any, found: Any) -> MismatchError:
    return MismatchError(
        f"{first.folder} and {run.folder} cannot stand side by side: their {what} differs ({wanted} and {found}). "
        "Report them apart, or run one of them again"
    )


def require_same_device_as_data(run: Run) -> None:
    """Device-seconds of different devices are never added up."""
    trained_on = run.info["hardware"]["device"]
    for one in everything_owed(run.inputs):
        if one.device not in (None, trained_on):
            raise MismatchError(
                f"{run.folder} trained on {trained_on} with {WHAT[one.kind]} made on {one.device}: their device-hours "
                f"cannot be added. {REMEDY[one.kind]}"
            )


def notes_on(runs: list[Run]) -> list[str]:
    """What a reader must know of the runs beside their numbers: where those come from, and whose budgets differ."""
    return [*(caveat for run in runs for caveat in run.caveats), *scorer_notes(runs), *budget_notes(runs)]


def scorer_notes(runs: list[Run]) -> list[str]:
    """Runs that trained on the verdicts of another scorer than the one that measured them."""
    notes = []
    for run in runs:
        trained_by = run.dataset.about.get("scorer") if run.dataset else None
        measured_by = run.info["fingerprints"].get("scorer")
        if trained_by not in (None, measured_by):
            notes.append(f"{run.name} trained on verdicts of {trained_by} and is measured by {measured_by}")
    return notes


def budget_notes(runs: list[Run]) -> list[str]:
    """What a reader must know where methods were given more or less to learn from than others."""
    notes = []
    for one in dict.fromkeys(run.method for run in runs):
        steps = {run.name: run.spending.last_step for run in runs if run.method == one}
        if len(set(steps.values())) > 1:
            notes.append(f"Budgets differ: {', '.join(f'{name} made {n:,} steps' for name, n in steps.items())}")
    datasets = {run.dataset.fingerprint for run in runs if run.dataset}
    if len(datasets) > 1:
        notes.append(f"Budgets differ: {len(datasets)} datasets; their costs are in the table by phase")
    return notes


def problem_sets(runs: list[Run], wanted: str | None = None) -> list[str]:
    """The problem sets to judge by: the one asked for, or all but those of validation where there are others.

    Raises:
        DatasetError: the runs were not evaluated on the one asked for.
    """
    first = next((run for run in runs if not run.log), runs[0])
    everything = list(first.info["evaluation"]["problem_sets"])
    for run in runs:
        if run.log:
            logged = run.info["evaluation"]["problem_sets"]
            if not (common := [source for source in everything if source in logged]):
                raise DatasetError(
                    f"{run.folder} logged an accuracy on {', '.join(logged)}, and on none of {', '.join(everything)}: "
                    "problem sets go by their names (`data_source`); report the runs apart"
                )
            everything = common
    if wanted is None:
        return [source for source in everything if not is_validation(source)] or everything
    if wanted not in everything:
        raise DatasetError(f"no evaluation on '{wanted}' in {runs[0].folder}: choose --on from {', '.join(everything)}")
    return [wanted]


def put_as_usual(sources: list[str]) -> list[str]:
    """Of problem sets those that are not put with an empty trace, where there are any: another question each."""
    return [source for source in sources if mode_of(source) == THINKING] or sources


def evaluated(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """The runs that were evaluated at least once, their base model as one measurement, and notes on the others.

    Raises:
        DatasetError: none was.
    """
    have, notes = _with_accuracy(with_pooled_base(runs))
    have, others = _sorted_out(
        have,
        [run for run in have if run.points],
        "not evaluated",
        "wait for it, or use recipe=evaluate",
    )
    return have, notes + others


def _with_accuracy(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """All but logs in which no accuracy was found, and what was found in those.

    Raises:
        DatasetError: they are all such logs.
    """
    have = [run for run in runs if not run.why_no_accuracy]
    if runs and not have:
        raise DatasetError(f"{runs[0].folder} {runs[0].why_no_accuracy}")
    return have, [f"Left out: {run.folder} {run.why_no_accuracy}" for run in runs if run.why_no_accuracy]


def with_whole_cost(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """The runs of which the cost of every step is known, and a note on the others.

    Raises:
        DatasetError: it is of none.
    """
    whole = [run for run in runs if run.has_whole_cost]
    if runs and not whole:
        require_whole_cost(runs[0])
    others = [run for run in runs if not run.has_whole_cost]
    names = ", ".join(f"{run.name} ({run.missing_cost})" if run.missing_cost else run.name for run in others)
    return whole, [f"Without the cost of some steps, and left out: {names}"] if others else []


def require_whole_cost(run: Run) -> None:
    """Refuse a run of which not every step has its cost: it would look cheaper than it was.

    Raises:
        DatasetError: naming what is missing.
    """
    if run.missing_cost:
        raise DatasetError(
            f"{run.folder} is without the cost of some steps ({run.missing_cost}): put the whole ledger back, or leave "
            "the run out; `--compare paired` needs no cost"
        )
    if run.missing_steps:
        raise DatasetError(f"{run.folder} is without the cost of some steps: give the log of the whole run")


def finished(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """The runs that came to their end and were evaluated, their base model as one measurement, and notes on the others.

    Raises:
        DatasetError: none did.
    """
    have, notes = _with_accuracy(with_pooled_base(runs))
    ended = [run for run in have if run.finished and run.points]
    lost = [run for run in have if run not in ended and run.missing_cost]
    remedy = f"put its ledger back ({lost[0].missing_cost})" if lost and lost[0] is have[0] else "wait for it"
    have, others = _sorted_out(have, ended, "not finished, or never evaluated", remedy)
    return have, [*notes, *others, *(caveat for run in lost for caveat in run.caveats)]


def _sorted_out(runs: list[Run], have: list[Run], without: str, remedy: str) -> tuple[list[Run], list[str]]:
    if runs and not have:
        raise DatasetError(f"{runs[0].folder} is {without}: {remedy}")
    others = [run.name for run in runs if run not in have]
    return have, [f"{without.capitalize()}, and left out: {', '.join(others)}"] if others else []
