"""A value head: what it cannot be trained with, and the data that it learns from."""

from __future__ import annotations

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import trains_adapter

HF_MODEL = "hf_model"


def check(facts: RunFacts) -> None:
    """Raise ConfigError where a value head is asked for that could not be built, kept or exported."""
    if not trains_head(facts):
        return
    actor, loss = facts.config.actor_rollout_ref.actor, facts.policy_loss.loss_mode
    if trains_adapter(facts.config.actor_rollout_ref.model):
        raise ConfigError(
            f"actor_rollout_ref.model.lora_rank: {loss} trains a value head, which no adapter holds; set it to 0"
        )
    if actor.strategy != "fsdp2":
        raise ConfigError(
            f"actor_rollout_ref.actor.strategy={actor.strategy}: {loss} trains a value head, which is built for "
            "fsdp2; set that"
        )
    if HF_MODEL in actor.checkpoint.save_contents:
        raise ConfigError(
            f"actor_rollout_ref.actor.checkpoint.save_contents: {HF_MODEL} would put the value head among the model's "
            "own weights; leave it out, snapshots.every keeps models in Hugging Face format"
        )


def check_dataset(facts: RunFacts) -> None:
    """Raise DatasetError where a row that trains has no value at the end of its own step."""
    if not trains_head(facts):
        return
    row, loss = facts.dataset.first_without_own_value(), facts.policy_loss.loss_mode
    if row is not None:
        raise DatasetError(
            f"{facts.dataset.folder}, row {row}: no value at its last token, which {loss} learns from: give "
            "rollouts=FOLDER of a dataset of steps, as recipe=collect_tree makes it, or take recipe=dpo"
        )


def trains_head(facts: RunFacts) -> bool:
    return facts.kind.trains and facts.kind.reads_rollouts and facts.policy_loss.trains_value_head
