"""One row a kind of run; a new kind is a trainer and a row.

What a command checks, where it writes, when it has nothing left to do and what it says in the end follow from the row.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from fpa_verl.commands import CACHING
from fpa_verl.errors import MismatchError
from fpa_verl.integration.config.facts import RunFacts, RunKind
from fpa_verl.integration.config.identity import (
    describe_collection,
    describe_evaluation,
    describe_run,
    require_same_model,
    require_same_scorer,
)
from fpa_verl.integration.config.next_commands import next_commands
from fpa_verl.integration.config.trees import are_trees_collected, report_trees
from fpa_verl.integration.config.typed_command import command_for
from fpa_verl.integration.say import say
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.manifest import MANIFEST_FILE
from fpa_verl.rollouts.reference_cache import CACHE_FILE, describe_cache, read_cache_file
from fpa_verl.rollouts.traces import BOTH
from fpa_verl.rollouts.writer import require_same_plan
from fpa_verl.runs.accuracy_table import accuracy_table
from fpa_verl.runs.ledger import read_spending
from fpa_verl.runs.names import CONFIG_FILE, RUN_FILE
from fpa_verl.runs.record import open_run
from fpa_verl.runs.run import read_run
from fpa_verl.runs.snapshots import keep_best_snapshot, not_evaluated
from fpa_verl.runs.summary import collected, summary
from fpa_verl.tables import for_terminal


def facts_of(config: DictConfig) -> RunFacts:
    """The facts of a run, whose trainer is one of ours or of verl's own."""
    return RunFacts(config, KINDS.get(config.trainer.v1.trainer_mode, VERLS_OWN))


# ---- collect ------------------------------------------------------------------------------------


def _is_collected(facts: RunFacts) -> bool:
    """Whether the dataset is there, with all that is asked for now; says so.

    Raises:
        MismatchError: another one is there, whole or begun.
    """
    folder = facts.rollouts
    is_whole = (folder / MANIFEST_FILE).exists()
    if is_whole:
        if facts.manifest.is_imported:
            raise MismatchError(f"{folder} was imported: choose rollouts=FOLDER for what is collected")
        require_same_model(facts)
        require_same_scorer(facts)
    require_same_plan(folder, describe_collection(facts))
    if is_whole:
        say(f"{folder}: collected before; delete it to collect again")
    return is_whole


def _report_collected(facts: RunFacts) -> None:
    """Say what became of the rollouts, and what to type next; fail where none of them can train."""
    dataset = RolloutDataset(facts.rollouts)
    for line in collected(dataset):
        say(line)
    dataset.require_items(1)
    # Pairs of both modes, where there are both.
    of_modes = ("bvpo",) if facts.config.collect.mode == BOTH else ()
    for recipe in ("fpa_offline", *of_modes, "grpo_baseline"):
        say(f"next: {command_for(recipe)}")


# ---- cache_reference ------------------------------------------------------------------------------


def _is_cached(facts: RunFacts) -> bool:
    if not (facts.cache_folder / CACHE_FILE).exists():
        return False
    read_cache_file(facts.cache_folder, facts.cache_key, facts.command_for(CACHING))
    return True


def _report_cached(facts: RunFacts) -> None:
    """Say what is in the cache, and what to type so that it is read."""
    say(describe_cache(facts.cache_folder, read_cache_file(facts.cache_folder, facts.cache_key)))
    source = str(facts.config.reference.source)
    # What keeps the response token alone is exact for those that ask for no future policy.
    reader = "dpo" if source == "chosen" else "fpa_offline"
    say(f"next: {command_for(reader, {'reference.source': source}, caches=True)}")


# ---- evaluate -------------------------------------------------------------------------------------


def _is_evaluated(facts: RunFacts) -> bool:
    if not (facts.run_dir / RUN_FILE).exists():
        return False
    open_run(facts.run_dir, describe_evaluation(facts))
    return read_spending(facts.run_dir).finished


def _report_evaluated(facts: RunFacts) -> None:
    Console().print(for_terminal(accuracy_table(facts.run_dir, facts.model_path)))


# ---- evaluate_snapshots ---------------------------------------------------------------------------


def _are_snapshots_evaluated(facts: RunFacts) -> bool:
    if any(not_evaluated(run_dir) for run_dir in facts.runs):
        return False
    if facts.config.keep_best:
        # Whoever was killed behind the last evaluation has kept none.
        for run_dir in facts.runs:
            keep_best_snapshot(run_dir)
    return True


def _report_snapshots(facts: RunFacts) -> None:
    runs = [read_run(run_dir) for run_dir in facts.runs]
    evaluated = [run for run in runs if run.points]
    for run in evaluated:
        for line in summary(run, keeps_best=facts.config.keep_best):
            say(line)
    if evaluated:
        say(f"next: fpa-verl report {shlex.join(str(run.folder) for run in evaluated)}")


# ---- training -------------------------------------------------------------------------------------


def _is_trained(facts: RunFacts) -> bool:
    """Whether the run in `run_dir` reached the last step that is asked for now, or stopped early; says so.

    Raises:
        MismatchError: another run is there.
    """
    folder = facts.run_dir
    if (folder / RUN_FILE).exists():
        open_run(folder, describe_run(facts))
    spending = read_spending(folder)
    if spending.stopped_early:
        say(f"{folder}: stopped early before; delete it to train again")
        return True
    if not spending.finished or _length(OmegaConf.load(folder / CONFIG_FILE)) != _length(facts.config):
        return False
    say(f"{folder}: finished before, at step {spending.last_step}; delete it to train again")
    return True


def _length(config: Any) -> tuple[int | None, int]:
    return config.trainer.total_training_steps, config.trainer.total_epochs


def _report_trained(facts: RunFacts) -> None:
    """Say what the run came to, and what to type next."""
    run = read_run(facts.run_dir)
    for line in summary(run, keeps_best=facts.config.keep_best):
        say(line)
    for command in next_commands(facts.run_dir, was_evaluated=bool(run.points)):
        say(f"next: {command}")


def _nothing_to_report(facts: RunFacts) -> None:
    """A trainer of verl's own says what it does itself."""


def _run_dir(facts: RunFacts) -> Path:
    return facts.run_dir


# ---- the rows -------------------------------------------------------------------------------------

OFFLINE = RunKind(
    name="offline",
    trains=True,
    holds_engine=True,
    reads_rollouts=True,
    evaluates=True,
    resumes=True,
    folder=_run_dir,
    is_done=_is_trained,
    report=_report_trained,
    describe=describe_run,
)
ONLINE = RunKind(
    name="metered_sync",
    trains=True,
    generates=True,
    holds_engine=True,
    reads_problems=True,
    evaluates=True,
    resumes=True,
    folder=_run_dir,
    is_done=_is_trained,
    report=_report_trained,
    describe=describe_run,
)
COLLECT = RunKind(
    name="collect",
    generates=True,
    reads_problems=True,
    folder=lambda facts: facts.rollouts,
    is_done=_is_collected,
    report=_report_collected,
)
COLLECT_TREE = RunKind(
    name="collect_tree",
    generates=True,
    reads_problems=True,
    searches=True,
    folder=lambda facts: facts.trees,
    is_done=are_trees_collected,
    report=report_trees,
)
EVALUATE = RunKind(
    name="evaluate",
    generates=True,
    evaluates=True,
    folder=_run_dir,
    is_done=_is_evaluated,
    report=_report_evaluated,
    describe=describe_evaluation,
)
EVALUATE_SNAPSHOTS = replace(
    EVALUATE,
    name="evaluate_snapshots",
    reads_runs=True,
    is_done=_are_snapshots_evaluated,
    report=_report_snapshots,
)
CACHE_REFERENCE = RunKind(
    name="cache_reference",
    holds_engine=True,
    reads_rollouts=True,
    makes_cache=True,
    folder=lambda facts: facts.cache_folder,
    is_done=_is_cached,
    report=_report_cached,
)

ROWS = (COLLECT, COLLECT_TREE, CACHE_REFERENCE, EVALUATE, EVALUATE_SNAPSHOTS, OFFLINE, ONLINE)
KINDS = {kind.name: kind for kind in ROWS}
# A trainer of verl's own: it does what verl does, and writes nothing down.
VERLS_OWN = replace(ONLINE, name="", resumes=False, is_done=lambda _: False, report=_nothing_to_report)
