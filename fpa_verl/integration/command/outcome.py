"""What a command leaves: whether that is there already, and what to say of it in the end."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from fpa_verl.evaluation import Accuracy, maj_at_k, pass_at_1, pass_at_k
from fpa_verl.integration.command.resume import nothing_left
from fpa_verl.integration.config import identity
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.manifest import MANIFEST_FILE
from fpa_verl.rollouts.reference_cache import CACHE_FILE, describe_cache, read_cache_file
from fpa_verl.runs.answers import AnswerStore, votes
from fpa_verl.runs.ledger import read_spending
from fpa_verl.runs.names import RUN_FILE
from fpa_verl.runs.record import open_run
from fpa_verl.runs.run import read_run
from fpa_verl.tables import Table, for_terminal, percent


def is_there(config: DictConfig) -> bool:
    """Whether the command has nothing left to do: collected, cached, evaluated or trained before.

    Raises:
        MismatchError: what is there was made with something else.
    """
    match config.trainer.v1.trainer_mode:
        case "collect":
            if not (Path(config.rollouts) / MANIFEST_FILE).exists():
                return False
            identity.require_same_model(config, config.rollouts)
            return True
        case "cache_reference":
            folder, key = identity.reference_cache_of(config)
            if not (folder / CACHE_FILE).exists():
                return False
            read_cache_file(folder, key)
            return True
        case "evaluate":
            if not (Path(config.run_dir) / RUN_FILE).exists():
                return False
            open_run(Path(config.run_dir), identity.describe_evaluation(config))
            return read_spending(Path(config.run_dir)).finished
    return nothing_left(config)


def ledger_folder(config: DictConfig) -> Path:
    """Where the command writes down what it spends."""
    match config.trainer.v1.trainer_mode:
        case "collect":
            return Path(config.rollouts)
        case "cache_reference":
            return identity.reference_cache_of(config)[0]
    return Path(config.run_dir)


def describe(config: DictConfig) -> None:
    """Say what was made; fail where nothing that was collected can train."""
    match config.trainer.v1.trainer_mode:
        case "collect":
            dataset = RolloutDataset(config.rollouts)
            counts = dataset.manifest.counts
            print(f"{config.rollouts}: " + ", ".join(f"{name} {value:,}" for name, value in counts.items()))
            dataset.require_items(1)
        case "cache_reference":
            folder, key = identity.reference_cache_of(config)
            print(describe_cache(folder, read_cache_file(folder, key)))
        case "evaluate":
            Console().print(for_terminal(accuracy_table(config)))


def _of_problems(accuracy: Accuracy, problems: int) -> str:
    """The accuracy, and of how many problems where others had too few answers that could be scored."""
    return percent(accuracy.mean) + ("" if accuracy.problems == problems else f" (of {accuracy.problems})")


def accuracy_table(config: DictConfig) -> Table:
    """Accuracy on each problem set of an evaluation, from what it recorded and the answers that it kept."""
    run = read_run(Path(config.run_dir))
    answers = dict(list(AnswerStore(run.folder).read().groupby("data_source")))
    rows = []
    for point in sorted(run.points, key=lambda point: point.data_source):
        k = run.info["evaluation"]["samples"][point.data_source]
        one = pass_at_1(point.problems)
        low, high = one.interval
        several = [pass_at_k(point.problems, k), maj_at_k(votes(answers[point.data_source]), k)] if k > 1 else []
        rows.append(
            [
                point.data_source,
                str(one.problems),
                str(k),
                f"{percent(one.mean)} ± {percent(one.standard_error)}",
                f"{percent(low)} to {percent(high)}",
                *([_of_problems(accuracy, one.problems) for accuracy in several] or ["-", "-"]),
                str(point.unscored),
            ]
        )
    header = ["problem set", "problems", "k", "pass@1 ± s.e.", "95 % interval", "pass@k", "maj@k", "unscored"]
    return Table(f"Accuracy (%) of {config.actor_rollout_ref.model.path}", header, rows)
