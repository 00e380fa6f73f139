"""What searches over solution steps have in common, those for trees (`tree`) and those for an answer (`beam`)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig
from transformers import AutoConfig

from fpa_verl.bounds import bounded
from fpa_verl.errors import ConfigError
from fpa_verl.files import sha256_of
from fpa_verl.integration.config.settings import require_bounds
from fpa_verl.objectives.value_head import FILE as HEAD_FILE
from fpa_verl.objectives.value_head import ValueHead
from fpa_verl.rollouts.fingerprint import digest, local_model_dir, model_fingerprint
from fpa_verl.rollouts.prompts import stops_of
from fpa_verl.trees.settings import StepSettings

# Keys of a group that are not the search's.
BESIDE = ("delimiter", "at_once", "value_model", "value_memory")
# Of a GPU's memory what engines on it may take together, and of that the one for values, unless told otherwise.
MOST_MEMORY, VALUE_MEMORY = 0.95, 0.3

S = TypeVar("S", bound=StepSettings)


@dataclass(frozen=True)
class ValueMemory:
    """`tree` and `beam`. value_memory: of a GPU's memory, the share of the engine that says what prefixes are worth."""

    value_memory: float = bounded(VALUE_MEMORY, above=0, at_most=1)


def step_settings(kind: type[S], config: DictConfig, group: str) -> S:
    """Settings of a search over steps, from a group of keys.

    Raises:
        ConfigError: a value is out of its bounds, of another kind, or no key of it.
    """
    given = {name: value for name, value in config[group].items() if name not in BESIDE}
    for field in dataclasses.fields(kind):
        if isinstance(field.default, bool) and not isinstance(given[field.name], bool):
            raise ConfigError(f"{group}.{field.name}={given[field.name]}: true or false is wanted")
    try:
        return kind(max_response_tokens=config.data.max_response_length, **given)
    except TypeError as error:
        raise ConfigError(f"{group}: {error}") from error


def require_steps(config: DictConfig, group: str) -> None:
    """Refuse what no search over steps can go by, be it for trees or for an answer.

    Args:
        config: the recipe.
        group: the search's keys.

    Raises:
        ConfigError: saying which key, and what to set it to.
    """
    require_delimiter(config, group)
    require_values(config, group)
    rollout, data = config.actor_rollout_ref.rollout, config.data
    if rollout.max_model_len < (needed := data.max_prompt_length + data.max_response_length):
        raise ConfigError(
            f"actor_rollout_ref.rollout.max_model_len={rollout.max_model_len}: a prompt and the steps behind it take "
            f"up to {needed}; set scale.max_model_tokens={needed}"
        )


def require_delimiter(config: DictConfig, group: str) -> None:
    """Refuse a delimiter that is none, or that no step or no solution could end at."""
    delimiter, key = config[group].delimiter, f"{group}.delimiter"
    if not isinstance(delimiter, str) or not delimiter:
        raise ConfigError(f"{key}={delimiter!r}: a text is wanted that ends a step, as ';' or a line break")
    if not delimiter.replace("\\n", ""):
        raise ConfigError(
            f"{key}={delimiter} is a backslash and an n; of a line break the command says "
            f'{key}=$\'"\\n"\', a file "\\n"'
        )
    for stop in stops_of(config):
        if stop in delimiter or delimiter in stop[:-1]:
            raise ConfigError(
                f"{key}={delimiter!r} and prompt.stop={stop!r}, which ends a solution: the one would always come "
                "before the other; choose another delimiter"
            )


def require_values(config: DictConfig, group: str) -> None:
    """Refuse a value model without a head, and one that the servers leave no room for."""
    if config[group].value_model is None:
        return
    require_bounds(ValueMemory, config[group], group)
    _require_fit(config, group)
    share = config[group].value_memory
    policy, room = config.actor_rollout_ref.rollout.gpu_memory_utilization, MOST_MEMORY - share
    if config.trainer.device != "cpu" and policy > room:
        raise ConfigError(
            f"{group}.value_memory={share}: the engine that gives values shares the GPU with the policy's, which "
            f"takes {policy} of it; set actor_rollout_ref.rollout.gpu_memory_utilization={room:.2g}"
        )


def _require_fit(config: DictConfig, group: str) -> None:
    """Refuse values of a model that is not of the policy's kind."""
    folder = values_folder(config, group)
    head, trunk = ValueHead.load(folder), AutoConfig.from_pretrained(folder)
    if head.linear.in_features != trunk.hidden_size:
        raise ConfigError(
            f"{group}.value_model={folder}: its value head is of a hidden size of {head.linear.in_features}, and its "
            f"model has {trunk.hidden_size}: name the folder as recipe=svpo left it"
        )
    policy = AutoConfig.from_pretrained(local_model_dir(str(config.actor_rollout_ref.model.path)))
    longest = config.data.max_prompt_length + config.data.max_response_length
    if trunk.vocab_size != policy.vocab_size or trunk.max_position_embeddings < longest:
        raise ConfigError(
            f"{group}.value_model={folder} reads {trunk.vocab_size} tokens at {trunk.max_position_embeddings} places, "
            f"and the policy writes {policy.vocab_size} at up to {longest}: name one of the same base model"
        )


def values_folder(config: DictConfig, group: str) -> Path:
    """The model whose head says what prefixes are worth, where the group's `value_model` names one."""
    return local_model_dir(str(config[group].value_model))


def values_of(config: DictConfig, group: str) -> dict[str, str]:
    """Whose values prefixes have; nothing where they have none, as in a first round."""
    if config[group].value_model is None:
        return {}
    folder = values_folder(config, group)
    return {"values": digest(model_fingerprint(str(folder)), sha256_of(folder / HEAD_FILE))}
