"""Room on the disk for what this very recipe keeps: checkpoints, snapshots, the best model and logits, or a cache."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

from safetensors import safe_open
from transformers import AutoConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from verl.utils.torch_dtypes import PrecisionType

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import compute_dtype, trains_adapter
from fpa_verl.integration.config.weightless import without_weights
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.fingerprint import local_model_dir
from fpa_verl.rollouts.reference_cache import arrays_of

# Bytes a parameter of a checkpoint: float32 weights, and two moments of Adam for what is trained.
WEIGHTS, MOMENTS = 4, 8
# Of a model in Hugging Face format; the best one, beside which a better one is written.
EXPORTED, EXPORTS = 2, 2


def check(facts: RunFacts) -> None:
    """Refuse a run that would fill the disk.

    Raises:
        ConfigError: with what it needs and what is free.
    """
    if facts.kind.trains and facts.kind.resumes:
        trainer = facts.config.trainer
        checkpoints = Path(trainer.default_local_dir).expanduser().absolute()
        left = _size(facts.run_dir) + (0 if checkpoints.is_relative_to(facts.run_dir) else _size(checkpoints))
        kept = "null" if trainer.max_actor_ckpt_to_keep is None else trainer.max_actor_ckpt_to_keep
        _require_room(
            checkpoints,
            bytes_needed(facts),
            left,
            f"run_dir={facts.run_dir}: checkpoints, snapshots, the best model and noted logits take up to",
            f"choose run_dir on another disk, or set trainer.max_actor_ckpt_to_keep=1 (it is {kept}) or "
            "trainer.save_freq=-1",
        )
    if facts.kind.makes_cache:
        source = facts.config.reference.source
        _require_room(
            facts.cache_folder.absolute(),
            cache_bytes(facts),
            _size(facts.cache_folder),
            f"reference.source={source}: the cache in {facts.cache_folder} takes",
            "have the dataset on another disk (rollouts=FOLDER), or keep less a token (docs/reference_cache.md)",
        )


def _require_room(folder: Path, needed: int, left: int, what: str, remedy: str) -> None:
    """What an earlier attempt left is written over, or is a part of what is needed."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    missing = needed - left - shutil.disk_usage(there).free
    if missing > 0:
        raise ConfigError(f"{what} {_gb(needed)} GB, {_gb(missing)} more than are free: {remedy}")


def _gb(count: int) -> str:
    return f"{count / 1e9:,.1f}"


def bytes_needed(facts: RunFacts) -> int:
    """The most that a training run holds at a time: of checkpoints one more than it keeps, for the older go last."""
    parameters = parameters_of(facts.model_path)
    moments = 0 if trains_adapter(facts.config.actor_rollout_ref.model) else MOMENTS
    best = EXPORTED * EXPORTS if facts.config.keep_best else 0
    snapshots = _each(facts, facts.config.snapshots.every)
    beside = EXPORTED if "hf_model" in facts.config.actor_rollout_ref.actor.checkpoint.save_contents else 0
    model = _checkpoints(facts) * (WEIGHTS + moments + beside) + best + EXPORTED * snapshots
    return parameters * model + (noted_bytes(facts) if facts.kind.reads_rollouts else 0)


def noted_bytes(facts: RunFacts) -> int:
    """Logits of all looks of an offline run (`foresight`); few of those of before the newest checkpoint are kept."""
    settings = facts.foresight
    dtype = PrecisionType.to_dtype(compute_dtype(facts.config.actor_rollout_ref.actor))
    of_a_look = settings.trajectories * settings.positions * facts.vocabulary * dtype.itemsize
    return (settings.looks + 1) * of_a_look if settings.looks else 0


def cache_bytes(facts: RunFacts) -> int:
    """The size of the reference cache that the run makes, of the rows that it covers."""
    dataset, key = RolloutDataset.of_all_modes(facts.rollouts), facts.cache_key
    hidden = AutoConfig.from_pretrained(local_model_dir(facts.model_path)).get_text_config().hidden_size
    arrays = arrays_of(key.source, key.k, key.samples, hidden, PrecisionType.to_dtype(key.dtype))
    of_a_token = sum(math.prod(shape) * dtype.itemsize for shape, dtype in arrays.values())
    return of_a_token * int(dataset.response_lengths()[dataset.items.rows].sum())


def _checkpoints(facts: RunFacts) -> int:
    kept, every = facts.config.trainer.max_actor_ckpt_to_keep, facts.config.trainer.save_freq
    if every <= 0:
        return 0
    # As verl has it, null, 0 and -1 keep all.
    return kept + 1 if kept and kept > 0 else _each(facts, every)


def _each(facts: RunFacts, every: int | None) -> int:
    """How often something is kept that is kept every so many steps, and after the last."""
    return math.ceil(_steps(facts) / every) if every else 0


def _steps(facts: RunFacts) -> int:
    """Steps that the run makes; where nothing is said, those that its epochs hold."""
    trainer = facts.config.trainer
    if trainer.total_training_steps:
        return int(trainer.total_training_steps)
    items = len(facts.dataset) if facts.kind.reads_rollouts else len(facts.training_problems)
    return items // facts.config.data.train_batch_size * int(trainer.total_epochs)


def parameters_of(model: str) -> int:
    """Parameters in a model's weight files; where those are no safetensors, of a model with its configuration."""
    folder = local_model_dir(model)
    files = _weight_files(folder)
    if not files:
        return without_weights(AutoConfig.from_pretrained(folder)).num_parameters()
    count = 0
    for file in files:
        with safe_open(file, "pt") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return count


def _weight_files(folder: Path) -> list[Path]:
    """Those that transformers loads: beside them a folder may have the same weights under another name."""
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if (whole := folder / SAFE_WEIGHTS_NAME).exists() or not index.exists():
        return [whole] if whole.exists() else []
    return [folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0
