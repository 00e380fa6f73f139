"""`tree`: how `recipe=collect_tree` searches, what makes two of its datasets the same, and what one came to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fpa_verl.bounds import bounded
from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.identity import made_with
from fpa_verl.integration.config.settings import require_bounds
from fpa_verl.integration.config.steps import require_steps, step_settings, values_of
from fpa_verl.integration.config.typed_command import command_for
from fpa_verl.integration.say import say
from fpa_verl.reward.verdicts import MODEL_STATUSES, SCORER_STATUSES
from fpa_verl.rollouts.manifest import MANIFEST_FILE, SOLUTIONS, STEPS, Manifest, read_manifest
from fpa_verl.rollouts.writer import require_same_plan
from fpa_verl.runs.ledger import GENERATION, read_spending
from fpa_verl.runs.summary import device_time
from fpa_verl.tables import percent
from fpa_verl.trees import PairRules, SearchSettings, SolutionRules, TreeDataset, write_solutions, write_steps
from fpa_verl.trees.datasets import NothingToTrainOnError, count_pairs
from fpa_verl.trees.store import TreeManifest, read_tree_manifest

# The group of keys that say how trees are searched.
TREE = "tree"
# Requests in flight over those that the servers work on at a time: those on their way, and solutions being scored.
IN_FLIGHT = 2


@dataclass(frozen=True)
class AtOnce:
    """`tree`. at_once: trees in flight at a time; unset, `IN_FLIGHT` times as many as the servers have room for."""

    at_once: int | None = bounded(None, at_least=1, whole=True)


def search_settings(config: DictConfig) -> SearchSettings:
    """The search that a recipe asks for.

    Raises:
        ConfigError: a value is out of its bounds, of another kind, or no key of it.
    """
    return step_settings(SearchSettings, config, TREE)


def require_search(config: DictConfig) -> None:
    """Refuse a search that cannot be, and a delimiter that would end no step.

    Raises:
        ConfigError: saying which key, and what to set it to.
    """
    search_settings(config)
    require_bounds(AtOnce, config.tree, TREE)
    require_steps(config, TREE)


def describe_trees(facts: RunFacts) -> dict[str, Any]:
    """The plan of `recipe=collect_tree`, which says of two tree datasets whether they are the same."""
    rollout = facts.config.actor_rollout_ref.rollout
    search = dataclasses.asdict(search_settings(facts.config))
    return {
        **made_with(facts),
        "search": {**search, "delimiter": facts.config.tree.delimiter, **values_of(facts.config, TREE)},
        "sampling": {"top_p": rollout.top_p, "top_k": rollout.top_k},
    }


def trees_at_once(config: DictConfig, servers: int) -> int:
    """How many trees are in flight at a time.

    Args:
        config: the recipe.
        servers: replicas that answer.
    """
    tree, rollout = config.tree, config.actor_rollout_ref.rollout
    if tree.at_once is not None:
        return int(tree.at_once)
    return math.ceil(IN_FLIGHT * servers * rollout.max_num_seqs * rollout.data_parallel_size / tree.children)


def are_trees_collected(facts: RunFacts) -> bool:
    """Whether the tree dataset is there, with all that is asked for now; says so.

    Raises:
        DatasetError: another kind of dataset is there, or it is damaged.
        MismatchError: trees of another search, model, scorer or of other problems are there, whole or begun.
    """
    folder = facts.trees
    is_whole = (folder / MANIFEST_FILE).exists()
    if is_whole:
        read_tree_manifest(folder)
    require_same_plan(folder, describe_trees(facts))
    if is_whole:
        say(f"{folder}: collected before; delete it to search again")
        write_datasets_of_trees(folder)
    return is_whole


def write_datasets_of_trees(folder: Path) -> None:
    """The rollout datasets that are made of trees by the usual rules, `steps/` and `solutions/`, as far as missing.

    Raises:
        DatasetError: the trees are damaged.
    """
    trees = TreeDataset(folder)
    makers = {
        STEPS: partial(write_steps, rules=PairRules()),
        SOLUTIONS: partial(write_solutions, rules=SolutionRules()),
    }
    for name, write in makers.items():
        if (folder / name / MANIFEST_FILE).exists():
            continue
        try:
            write(trees, folder / name)
        except NothingToTrainOnError as error:
            # The trees are there, and other rules may give some.
            say(f"note: {error}")


def report_trees(facts: RunFacts) -> None:
    """Say what became of the trees.

    Raises:
        DatasetError: there is nothing to tell right steps from wrong ones by.
    """
    manifest = read_tree_manifest(facts.trees)
    say(f"{facts.trees}:")
    for line in searched(manifest):
        say(f"  {line}")
    say(f"  {_spent(facts, manifest)}")
    counts = manifest.counts
    if not counts.get("status_right") and not _wrong(counts):
        raise DatasetError(
            f"nothing to prefer in {facts.trees}: no solution could be scored; mend what the scorer says "
            f"(`fpa-verl data check {facts.trees / SOLUTIONS}`), delete the folder and search again"
        )
    if not counts.get("status_right") or not _wrong(counts):
        only = "right" if counts.get("status_right") else "wrong"
        raise DatasetError(
            f"nothing to prefer in {facts.trees}: all solutions are {only}; take other problems, another model, or "
            "another tree.temperature"
        )
    if (facts.trees / STEPS / MANIFEST_FILE).exists():
        found = count_pairs(facts.trees / STEPS, read_manifest(facts.trees / STEPS))
        gap = f"Q {found.mean_gap:.2f} apart in the mean"
        say(f"  {found.pairs:,} pairs of steps from {found.problems:,} problems, {gap}")
        say(f"next: {command_for('svpo')}")
    if (facts.trees / SOLUTIONS / MANIFEST_FILE).exists():
        say(f"next: {command_for('dpo', {'rollouts': str(facts.trees / SOLUTIONS)})}, on whole solutions")


def searched(manifest: TreeManifest) -> Iterator[str]:
    """Trees, nodes, and what became of the solutions."""
    counts = manifest.counts
    trees, right, wrong = counts.get("trees", 0), counts.get("status_right", 0), _wrong(counts)
    yield f"{trees:,} trees of {counts['problems']:,} problems, {counts.get('nodes', 0):,} nodes"
    yield (
        f"{right + wrong:,} solutions: {percent(right / max(1, right + wrong))} % right, "
        f"{percent(counts.get('status_no_answer', 0) / max(1, right + wrong))} % without an answer or broken off"
    )
    if unscored := sum(counts.get(f"status_{status}", 0) for status in SCORER_STATUSES):
        yield f"{unscored:,} could not be scored"


def _wrong(counts: dict[str, int]) -> int:
    return sum(counts.get(f"status_{status}", 0) for status in MODEL_STATUSES if status != "right")


def _spent(facts: RunFacts, manifest: TreeManifest) -> str:
    """Tokens, all that were sampled, those of trees that a kill cost among them; and what they took."""
    spending, cost = read_spending(facts.trees), sum(manifest.cost["device_seconds"].values())
    seconds, tokens = spending.wall_seconds.get(GENERATION, 0.0), spending.generated_tokens or 0
    rate = f", {tokens / seconds:,.0f} a second" if seconds else ""
    return f"{tokens:,} tokens{rate}; cost: {device_time(cost, largest=cost)}, start-up left out"


def searched_again(
    rollouts: Path, manifest: Manifest, config: DictConfig, *, trains_value_head: bool
) -> dict[str, str]:
    """Keys and values by which those trees were searched that a dataset was made from.

    Args:
        rollouts: the dataset.
        manifest: its own.
        config: the recipe, of which delimiter and longest response go from one command to the next.
        trains_value_head: whether it leaves a head that says what leaves are worth.

    Raises:
        DatasetError: the trees are not there any more.
        MismatchError: another search would make other datasets of its trees, or end steps or solutions elsewhere.
    """
    delimiter, longest = config.scale.tree.delimiter, config.data.max_response_length
    trees = rollouts / str(manifest.origin["folder"])
    usual = dataclasses.asdict(PairRules() if manifest.holds_steps else SolutionRules())
    if manifest.origin["rules"] != usual:
        raise MismatchError(
            f"{rollouts} was made of {trees} by rules of its own, and later rounds make theirs by the usual ones: make "
            f"it by these, `fpa-verl data {manifest.origin['made']} {trees} --out FOLDER`, or leave rounds out"
        )
    about = read_tree_manifest(trees)
    search = about.search
    if search["delimiter"] != delimiter:
        raise MismatchError(
            f"{trees}: steps end with {search['delimiter']!r}, and those of later rounds would with "
            f"{delimiter!r}: say so in the task's file (scale.tree.delimiter)"
        )
    if search["max_response_tokens"] != longest:
        raise MismatchError(
            f"{trees}: solutions have up to {search['max_response_tokens']} tokens, and those of later rounds would "
            f"have {longest}: set data.max_response_length={search['max_response_tokens']}"
        )
    if "values" in search and not trains_value_head:
        raise MismatchError(
            f"{trees}: a value model judged its leaves, and {config.recipe_name} leaves none for later rounds: take "
            "recipe=svpo, or a search without tree.value_model"
        )
    kept = {field.name for field in dataclasses.fields(SearchSettings)} - {"seed", "max_response_tokens"}
    return {
        **{f"{TREE}.{name}": str(search[name]).lower() for name in sorted(kept)},
        **{f"actor_rollout_ref.rollout.{name}": str(value) for name, value in about.sampling.items()},
    }
