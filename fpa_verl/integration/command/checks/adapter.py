"""LoRA: what an adapter is made of, and what verl's own keys of it would do to a comparison."""

from __future__ import annotations

import re
from collections.abc import Iterable

from omegaconf import OmegaConf
from torch import nn
from transformers import AutoConfig

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import Adapter, adapter_of_an_end, require_bounds, trains_adapter
from fpa_verl.integration.config.weightless import without_weights
from fpa_verl.rollouts.fingerprint import local_model_dir

KEY = "actor_rollout_ref.model"
# peft's word for every linear layer but the head.
ALL = "all-linear"


def check(facts: RunFacts) -> None:
    """Raise ConfigError where the adapter would not be what is typed."""
    require_bounds(Adapter, facts.config.actor_rollout_ref.model, KEY)
    require_new_adapter(facts)
    require_fsdps_rank(facts)
    require_modules(facts)
    require_targets(facts)
    if facts.kind.holds_engine and trains_adapter(facts.config.actor_rollout_ref.model):
        require_fsdp2(facts)


def require_new_adapter(facts: RunFacts) -> None:
    """What trained another adapter is charged to nobody, and rollout servers without training never load it."""
    if path := facts.config.actor_rollout_ref.model.get("lora_adapter_path"):
        raise ConfigError(
            f"{KEY}.lora_adapter_path={path}: runs begin at {KEY}.path, which is their reference; merge the adapter "
            "into it (peft's merge_and_unload, save_pretrained) and give that model"
        )


def require_fsdps_rank(facts: RunFacts) -> None:
    """With Megatron's key verl would train all weights, and take them for the reference."""
    if rank := OmegaConf.select(facts.config.actor_rollout_ref.model, "lora.rank"):
        raise ConfigError(f"{KEY}.lora.rank={rank} is Megatron's: set {KEY}.lora_rank, and lora_alpha")


def require_modules(facts: RunFacts) -> None:
    """The model that is kept is made of modules' weights and what the adapter adds to them."""
    if names := facts.config.actor_rollout_ref.model.get("target_parameters"):
        raise ConfigError(
            f"{KEY}.target_parameters={list(names)}: an adapter of bare parameters is not merged into the model that "
            f"is kept; name modules, with {KEY}.target_modules"
        )


def require_fsdp2(facts: RunFacts) -> None:
    strategy = facts.config.actor_rollout_ref.actor.strategy
    if strategy != "fsdp2":
        raise ConfigError(
            f"actor_rollout_ref.actor.strategy={strategy}: an adapter is switched off and merged in the place where it "
            f"is trained, which takes fsdp2; set that, or {KEY}.lora_rank=0"
        )


def require_targets(facts: RunFacts) -> None:
    """Peft leaves out silently what the model has no module of, as long as there is one of another name."""
    model = facts.config.actor_rollout_ref.model
    targets, excluded = model.get("target_modules"), model.get("exclude_modules") or []
    if not trains_adapter(model) or targets in (None, ALL):
        return
    network = without_weights(AutoConfig.from_pretrained(local_model_dir(facts.model_path)))
    modules = dict(network.named_modules())
    embeddings, head = network.get_input_embeddings(), network.get_output_embeddings()
    ends = [name for name, one in modules.items() if one is embeddings or one is head]
    for target in [targets] if isinstance(targets, str) else targets:
        if not any(_is_meant(name, target if target is targets else [target]) for name in modules):
            linear = [name for name, one in modules.items() if isinstance(one, nn.Linear) and name not in ends]
            known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear))
            raise ConfigError(
                f"{KEY}.target_modules={target}: {facts.model_path} has no such module; its linear layers: {known}"
            )
    if end := next((name for name in ends if _is_meant(name, targets) and not _is_meant(name, excluded)), None):
        raise adapter_of_an_end(end)


def _is_meant(name: str, targets: str | Iterable[str]) -> bool:
    """As peft matches: a text is a pattern of the whole name, in a list it is the name's end."""
    if isinstance(targets, str):
        return bool(re.fullmatch(targets, name))
    return any(name == target or name.endswith(f".{target}") for target in targets)
