"""LoRA: what an adapter is made of, and what verl's own keys of it would do to a comparison."""

from __future__ import annotations

from omegaconf import OmegaConf

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import Adapter, require_bounds, trains_adapter

KEY = "actor_rollout_ref.model"


def check(facts: RunFacts) -> None:
    """Raise ConfigError where the adapter would not be what is typed."""
    require_bounds(Adapter, facts.config.actor_rollout_ref.model, KEY)
    require_new_adapter(facts)
    require_fsdps_rank(facts)
    require_modules(facts)
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
