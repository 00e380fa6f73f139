"""`tree`: how `recipe=collect_tree` searches, what makes two of its datasets the same, and what one came to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fpa_verl.bounds import bounded
from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.files import sha256_of
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.identity import made_with
from fpa_verl.integration.config.settings import require_bounds
from fpa_verl.integration.say import say
from fpa_verl.objectives.value_head import FILE as HEAD_FILE
from fpa_verl.objectives.value_head import ValueHead
from fpa_verl.reward.verdicts import MODEL_STATUSES, SCORER_STATUSES
from fpa_verl.rollouts.fingerprint import digest, local_model_dir, model_fingerprint
from fpa_verl.rollouts.manifest import MANIFEST_FILE
from fpa_verl.rollouts.prompts import stops_of
from fpa_verl.rollouts.writer import require_same_plan
from fpa_verl.runs.ledger import GENERATION, read_spending
from fpa_verl.runs.summary import device_time
from fpa_verl.tables import percent
from fpa_verl.trees import SearchSettings
from fpa_verl.trees.store import TreeManifest, read_tree_manifest

# Keys of `tree` that are not the search's.
BESIDE = ("delimiter", "at_once", "value_model", "value_memory")
# Of a GPU's memory what engines on it may take together.
MOST_MEMORY = 0.95
# Requests in flight over those that the servers work on at a time: those on their way, and solutions being scored.
IN_FLIGHT = 2


@dataclass(frozen=True)
class AtOnce:
    """`tree`. at_once: trees in flight at a time; unset, `IN_FLIGHT` times as many as the servers have room for."""

    at_once: int | None = bounded(None, at_least=1, whole=True)


@dataclass(frozen=True)
class ValueMemory:
    """`tree`. value_memory: of a GPU's memory, the share of the engine that says what leaves are worth."""

    value_memory: float = bounded(0.3, above=0, at_most=1)


def search_settings(config: DictConfig) -> SearchSettings:
    """The search that a recipe asks for.

    Raises:
        ConfigError: a value is out of its bounds, of another kind, or no key of it.
    """
    given = {name: value for name, value in config.tree.items() if name not in BESIDE}
    for field in dataclasses.fields(SearchSettings):
        if isinstance(field.default, bool) and not isinstance(given[field.name], bool):
            raise ConfigError(f"tree.{field.name}={given[field.name]}: true or false is wanted")
    try:
        return SearchSettings(max_response_tokens=config.data.max_response_length, **given)
    except TypeError as error:
        raise ConfigError(f"tree: {error}") from error


def require_search(config: DictConfig) -> None:
    """Refuse a search that cannot be, and a delimiter that would end no step.

    Raises:
        ConfigError: saying which key, and what to set it to.
    """
    settings = search_settings(config)
    require_bounds(AtOnce, config.tree, "tree")
    require_delimiter(config)
    require_values(config)
    rollout, data = config.actor_rollout_ref.rollout, config.data
    if rollout.max_model_len < (needed := data.max_prompt_length + settings.max_response_tokens):
        raise ConfigError(
            f"actor_rollout_ref.rollout.max_model_len={rollout.max_model_len}: a prompt and the steps behind it take "
            f"up to {needed}; set scale.max_model_tokens={needed}"
        )


def require_delimiter(config: DictConfig) -> None:
    """Refuse a delimiter that is none, or that no step or no solution could end at."""
    delimiter = config.tree.delimiter
    if not isinstance(delimiter, str) or not delimiter:
        raise ConfigError(f"tree.delimiter={delimiter!r}: a text is wanted that ends a step, as ';' or a line break")
    if not delimiter.replace("\\n", ""):
        raise ConfigError(
            f"tree.delimiter={delimiter} is a backslash and an n; of a line break the command says "
            'tree.delimiter=$\'"\\n"\', a file "\\n"'
        )
    for stop in stops_of(config):
        if stop in delimiter or delimiter in stop[:-1]:
            raise ConfigError(
                f"tree.delimiter={delimiter!r} and prompt.stop={stop!r}, which ends a solution: the one would always "
                "come before the other; choose another delimiter"
            )


def require_values(config: DictConfig) -> None:
    """Refuse a value model without a head, and one that the servers leave no room for."""
    if config.tree.value_model is None:
        return
    require_bounds(ValueMemory, config.tree, "tree")
    ValueHead.load(values_folder(config))
    policy, room = config.actor_rollout_ref.rollout.gpu_memory_utilization, MOST_MEMORY - config.tree.value_memory
    if config.trainer.device != "cpu" and policy > room:
        raise ConfigError(
            f"tree.value_memory={config.tree.value_memory}: the engine that gives values shares the GPU with the "
            f"policy's, which takes {policy} of it; set actor_rollout_ref.rollout.gpu_memory_utilization={room:.2g}"
        )


def values_folder(config: DictConfig) -> Path:
    """The model whose head says what leaves are worth, where `tree.value_model` names one."""
    return local_model_dir(str(config.tree.value_model))


def describe_trees(facts: RunFacts) -> dict[str, Any]:
    """The plan of `recipe=collect_tree`, which says of two tree datasets whether they are the same."""
    rollout = facts.config.actor_rollout_ref.rollout
    search = dataclasses.asdict(search_settings(facts.config))
    return {
        **made_with(facts),
        "search": {**search, "delimiter": facts.config.tree.delimiter, **_values_of(facts.config)},
        "sampling": {"top_p": rollout.top_p, "top_k": rollout.top_k},
    }


def _values_of(config: DictConfig) -> dict[str, str]:
    """Whose values leaves have; nothing in a first round, where they have none."""
    if config.tree.value_model is None:
        return {}
    folder = values_folder(config)
    return {"values": digest(model_fingerprint(str(folder)), sha256_of(folder / HEAD_FILE))}


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
    return is_whole


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
    if not counts.get("status_right") or not _wrong(counts):
        only = "right" if counts.get("status_right") else "wrong"
        raise DatasetError(
            f"nothing to prefer in {facts.trees}: all solutions are {only}; take other problems, another model, or "
            "another tree.temperature"
        )


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
