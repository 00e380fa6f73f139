"""Questions that several modules ask of a composed configuration."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig


def validates(config: DictConfig) -> bool:
    """Whether the run ever validates, and so whether an offline run needs a rollout engine at all."""
    return config.trainer.test_freq > 0 or bool(config.trainer.val_before_train)


def compute_dtype(actor: DictConfig) -> str:
    """The dtype of the actor's forward pass, as verl's FSDP engine takes it from its configuration."""
    return str((actor.fsdp_config.get("mixed_precision") or {}).get("param_dtype", "bf16"))


def as_list(files: Any) -> list[str]:
    """`data.*_files` as a list: verl takes one name or several."""
    return [files] if isinstance(files, str) else [str(file) for file in files]
