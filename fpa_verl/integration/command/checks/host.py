"""Memory of the machine, in which a training engine reads its model before anything of it is on a device."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
from transformers import AutoConfig
from verl.utils.torch_dtypes import PrecisionType

from fpa_verl.integration.command.checks.disk import parameters_of
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import joins_cluster
from fpa_verl.rollouts.fingerprint import local_model_dir

GB = 1e9
# What verl trains in where a recipe does not say.
DTYPE = "fp32"


def notes(facts: RunFacts) -> Iterator[str]:
    """Of a model that is larger than what is free here; other machines of a cluster are nothing to this one."""
    if not facts.kind.holds_engine or joins_cluster(facts.config):
        return
    copies, needed, free = copies_read(facts), bytes_to_read(facts), psutil.virtual_memory().available
    if needed > free:
        whom = "a worker" if copies == 1 else f"each of {copies} workers"
        yield (
            f"{whom} reads {facts.model_path} whole, in {_dtype(facts)}, before any of it is on a device: that takes "
            f"{needed / GB:,.1f} GB of memory, and {free / GB:,.1f} GB are free; stop what else runs, or take a larger "
            "machine"
        )


def bytes_to_read(facts: RunFacts) -> int:
    """What all workers of this machine hold of the model at the same time as they read it.

    A reference is read before or after the actor, in the same dtype or a smaller one, and is no more at a time.
    """
    return copies_read(facts) * parameters_of(facts.model_path) * PrecisionType.to_dtype(_dtype(facts)).itemsize


def copies_read(facts: RunFacts) -> int:
    """How many workers of a machine read the model whole.

    As verl's engine has it: every one of a model whose head is its embeddings; else the first of each group over which
    FSDP divides, and the others are sent theirs.
    """
    workers = int(facts.config.trainer.n_gpus_per_node)
    config = AutoConfig.from_pretrained(local_model_dir(facts.model_path)).get_text_config()
    if getattr(config, "tie_word_embeddings", False):
        return workers
    group = int(facts.config.actor_rollout_ref.actor.fsdp_config.get("fsdp_size", -1))
    return max(1, workers // group) if group > 0 else 1


def _dtype(facts: RunFacts) -> str:
    return str(facts.config.actor_rollout_ref.actor.fsdp_config.get("model_dtype") or DTYPE)
