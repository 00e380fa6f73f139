"""Room on the disk for the checkpoints, snapshots and the best model of this very recipe."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from safetensors import safe_open

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import trains_adapter
from fpa_verl.rollouts.fingerprint import local_model_dir

# Bytes a parameter of a checkpoint: float32 weights, and two moments of Adam for what is trained.
WEIGHTS, MOMENTS = 4, 8
# Of the best model, of which a better one is written beside it.
EXPORTED, EXPORTS = 2, 2


def check(facts: RunFacts) -> None:
    """Refuse a run that would fill the disk.

    Raises:
        ConfigError: with what it needs and what is free.
    """
    if not (facts.kind.trains and facts.kind.resumes):
        return
    folder = Path(facts.config.trainer.default_local_dir).expanduser().absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    needed, free = bytes_needed(facts), shutil.disk_usage(there).free
    # What an earlier attempt left is written over.
    missing = needed - _size(folder) - free
    if missing > 0:
        config = facts.config.trainer
        raise ConfigError(
            f"run_dir={facts.run_dir}: checkpoints, snapshots and the best model take {needed / 1e9:,.1f} GB at a "
            f"time, {missing / 1e9:,.1f} more than are free: choose run_dir on another disk, or set "
            f"trainer.max_actor_ckpt_to_keep=1 (it is {config.max_actor_ckpt_to_keep}) or trainer.save_freq=-1"
        )


def bytes_needed(facts: RunFacts) -> int:
    """The most that the run holds at a time: of checkpoints one more than it keeps, for the older go last."""
    config, parameters = facts.config.trainer, parameters_of(facts.model_path)
    kept = config.max_actor_ckpt_to_keep
    saved = 0 if config.save_freq <= 0 else 1 + (kept if kept and kept > 0 else 1)
    moments = 0 if trains_adapter(facts.config.actor_rollout_ref.model) else MOMENTS
    best = EXPORTED * EXPORTS if facts.config.keep_best else 0
    return parameters * (saved * (WEIGHTS + moments) + best + EXPORTED * _snapshots(facts))


def _snapshots(facts: RunFacts) -> int:
    """How many the run keeps; 0 where it is epochs that decide how long it is."""
    every, steps = facts.config.snapshots.every, facts.config.trainer.total_training_steps
    return math.ceil(steps / every) if every and steps else 0


def parameters_of(model: str) -> int:
    """Parameters in a model's weight files; 0 where those are no safetensors."""
    count = 0
    for file in local_model_dir(model).glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return count


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0
