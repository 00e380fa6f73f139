"""Questions that several modules ask of a composed configuration."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig


def validates(config: DictConfig) -> bool:
    """Whether the run ever validates, and so whether an offline run needs a rollout engine at all."""
    return config.trainer.test_freq > 0 or bool(config.trainer.val_before_train)


def as_list(files: Any) -> list[str]:
    """`data.*_files` as a list: verl takes one name or several."""
    return [files] if isinstance(files, str) else [str(file) for file in files]
