"""Checks before Ray starts: one line for each way to go wrong."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from transformers import AutoConfig

from fpa_verl.errors import ConfigError, DatasetError, FpaError, IntegrationError
from fpa_verl.integration.config import identity
from fpa_verl.integration.config.settings import (
    Batches,
    EarlyStopping,
    Evaluation,
    KeptTokens,
    Sampling,
    TrainedSampling,
    as_list,
    joins_cluster,
    require_bounds,
)
from fpa_verl.integration.config.versions import check_verl
from fpa_verl.integration.safety.divergence import CollapseRule
from fpa_verl.objectives import Objective
from fpa_verl.rollouts import RolloutDataset, Selection
from fpa_verl.rollouts.fingerprint import local_model_dir
from fpa_verl.rollouts.problems import read_problems
from fpa_verl.rollouts.reference_cache import SOURCES
from fpa_verl.rollouts.schema import is_validation

# Bytes of a dataset that are read through before anything starts, which takes seconds. Of a larger one
# every shard is checked when a run first reads it.
VERIFIED_AT_START = 8_000_000_000
# Trainers that sample nothing they train on, or train nothing.
NOT_ONLINE = ("offline", "cache_reference", "evaluate", "collect")
SAMPLES_ONLY = ("collect", "evaluate")
# Settings of verl's own validation, which the plugin's evaluation stands in for.
OF_VERLS_VALIDATION = {
    "data.val_max_samples": "set evaluation.samples, or name a smaller file in data.val_files",
    "data.val_batch_size": "all answers are asked for at once; leave it null",
    "trainer.validation_data_dir": "the answers are kept in run_dir/samples; leave it null",
}


def check(config: DictConfig) -> None:
    """Refuse what could not train, before anything is started.

    Raises:
        FpaError: of the kind that fits, saying what is wrong, where, and what to type.
    """
    check_verl()
    require_plugin()
    mode = config.trainer.v1.trainer_mode
    _check_bounds(config)
    if config.trainer.device == "cuda":
        _check_gpu(config)
    if mode not in SAMPLES_ONLY:
        _check_ulysses(config)
    if mode in ("offline", "cache_reference"):
        _check_objective(config)
        _check_rollouts(config)
        _check_reference(config)
    elif mode != "evaluate":
        _check_training_problems(config)
    if mode not in NOT_ONLINE:
        _check_micro_batches(config, config.data.max_prompt_length + config.data.max_response_length)
    if mode not in ("collect", "cache_reference"):
        _check_evaluation(config)
        _check_seeded(config)
        _check_early_stopping(config)
        _check_checkpoints(config)
    identity.model_identity(config)


def require_plugin() -> None:
    """Raise IntegrationError where verl does not load the plugin in this process."""
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    if policy != "auto" and "fpa_verl" not in {name.strip() for name in policy.split(",")}:
        raise IntegrationError(
            f"VERL_USE_EXTERNAL_PLUGINS={policy} keeps verl from loading this plugin: unset it, or add fpa_verl to it"
        )
    import verl  # noqa: F401
    from verl.plugin.platform.platform_manager import PlatformRegistry

    if "cpu" not in PlatformRegistry.registered_names():
        raise IntegrationError(
            "verl did not load the plugin (entry point 'fpa_verl' in group verl.plugins): reinstall fpa-verl in "
            "this environment, then `python -c 'import fpa_verl.integration.plugin'` shows the reason"
        )


def _check_bounds(config: DictConfig) -> None:
    """Numbers that nothing but an answer, a batch or a step later would find wrong."""
    rollout = config.actor_rollout_ref.rollout
    trains_online = config.trainer.v1.trainer_mode not in NOT_ONLINE
    require_bounds(TrainedSampling if trains_online else Sampling, rollout, "actor_rollout_ref.rollout")
    require_bounds(Sampling, rollout.val_kwargs, "actor_rollout_ref.rollout.val_kwargs")
    require_bounds(Batches, config.data, "data")
    require_bounds(EarlyStopping, config.early_stopping, "early_stopping")
    require_bounds(Evaluation, config.evaluation, "evaluation")


def _actor_config(config: DictConfig) -> Any:
    from verl.utils.config import omega_conf_to_dataclass

    try:
        return omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    except InstantiationException as error:
        # hydra wraps what a dataclass says about its own values.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, FpaError):
            cause = cause.__cause__
        raise cause or ConfigError(f"actor_rollout_ref.actor: {' '.join(str(error).split())}") from error


def _check_objective(config: DictConfig) -> None:
    from fpa_verl.integration.policy_losses import KEY, LOSS_AGG_MODE, OfflinePolicyLossConfig

    actor = _actor_config(config)
    if not isinstance(actor.policy_loss, OfflinePolicyLossConfig):
        raise ConfigError(
            f"{KEY}._target_: the offline trainer needs fpa_verl.integration.policy_losses.offline_policy_loss, as "
            "recipes/base/offline.yaml sets it"
        )
    _check_unit(config.data.selection.unit, actor.policy_loss.objective)
    CollapseRule(**config.collapse)
    if config.actor_rollout_ref.model.get("use_fused_kernels") and actor.policy_loss.needs:
        raise ConfigError(
            f"actor_rollout_ref.model.use_fused_kernels=true hides the logits that {actor.policy_loss.loss_mode} "
            "compares with the reference's: set it to false"
        )
    if config.actor_rollout_ref.model.get("lora_rank", 0) > 0:
        raise ConfigError("actor_rollout_ref.model.lora_rank: offline runs train all weights; set it to 0")
    if actor.use_kl_loss:
        raise ConfigError(
            "actor_rollout_ref.actor.use_kl_loss=true is for online runs; an offline objective takes "
            f"{KEY}.forward_kl_coef"
        )
    if actor.loss_agg_mode != LOSS_AGG_MODE:
        raise ConfigError(f"actor_rollout_ref.actor.loss_agg_mode={actor.loss_agg_mode}: set it to {LOSS_AGG_MODE}")
    if actor.ppo_epochs != 1:
        raise ConfigError(
            f"actor_rollout_ref.actor.ppo_epochs={actor.ppo_epochs}: a batch is trained on once; set it to 1"
        )


def _check_unit(unit: str, objective: Objective | None) -> None:
    if objective is None or (unit == "pair") == (objective.unit == "pair"):
        return
    if unit == "pair":
        raise ConfigError(
            f"data.selection.unit={unit}: {objective.name} learns from single trajectories; set "
            "data.selection.unit=trajectory, actor_rollout_ref.rollout.n=1 and data.train_batch_size to trajectories "
            "a batch"
        )
    raise ConfigError(
        f"data.selection.unit={unit}: {objective.name} learns from pairs; set data.selection.unit=pair, "
        "actor_rollout_ref.rollout.n=2 and data.train_batch_size to pairs a batch"
    )


def _check_rollouts(config: DictConfig) -> None:
    folder = as_list(config.data.train_files)[0]
    identity.require_same_model(config, folder)
    dataset = RolloutDataset(folder, Selection(**config.data.selection))
    if dataset.bytes <= VERIFIED_AT_START:
        dataset.verify()
    caches = config.trainer.v1.trainer_mode == "cache_reference"
    dataset.require_items(1 if caches else config.data.train_batch_size)
    if not caches:
        _check_batches(config, dataset)
    # verl keeps a pair in one micro-batch.
    together = 2 if config.data.selection.unit == "pair" else 1
    _check_micro_batches(config, int(dataset.lengths()[dataset.items.rows].reshape(-1, together).sum(1).max()))


def _sequence_parallel_size(config: DictConfig) -> int:
    return int(config.actor_rollout_ref.actor.fsdp_config.get("ulysses_sequence_parallel_size", 1))


def _check_batches(config: DictConfig, dataset: RolloutDataset) -> None:
    """A batch must be one optimizer step, and the epochs must hold the steps that were asked for."""
    sizes, n = set(dataset.items.sizes.tolist()), config.actor_rollout_ref.rollout.n
    if max(sizes) != n:
        raise ConfigError(
            f"actor_rollout_ref.rollout.n={n}: an item of {dataset.folder} has up to {max(sizes)} trajectories, and a "
            f"batch would not be one update; set it to {max(sizes)}"
        )
    if len(sizes) > 1 and config.reference.source != "forward":
        raise ConfigError(
            f"reference.source={config.reference.source}: groups of {dataset.folder} differ in size, and verl fills "
            "them up with rows that no cache has; set reference.source=forward or data.selection.unit=trajectory"
        )
    actor = config.actor_rollout_ref.actor
    workers = config.trainer.n_gpus_per_node * config.trainer.nnodes
    workers //= _sequence_parallel_size(config)
    if actor.ppo_mini_batch_size != config.data.train_batch_size or actor.shuffle:
        raise ConfigError(
            f"actor_rollout_ref.actor.ppo_mini_batch_size={actor.ppo_mini_batch_size}, shuffle={actor.shuffle}: a "
            "batch is one update in its own order; leave ppo_mini_batch_size to data.train_batch_size and shuffle false"
        )
    if config.data.train_batch_size % workers:
        raise ConfigError(
            f"data.train_batch_size={config.data.train_batch_size} does not divide among {workers} workers: set it to "
            f"a multiple of {workers}"
        )
    steps, epochs = config.trainer.total_training_steps, config.trainer.total_epochs
    steps_per_epoch = len(dataset) // config.data.train_batch_size
    if steps is not None and steps > steps_per_epoch * epochs:
        raise ConfigError(
            f"trainer.total_training_steps={steps}: {epochs} epochs of {len(dataset)} items in batches of "
            f"{config.data.train_batch_size} end after {steps_per_epoch * epochs}; raise trainer.total_epochs"
        )


def _check_micro_batches(config: DictConfig, longest: int) -> None:
    """`longest`: tokens that cannot be divided among micro-batches, or may turn out so."""
    if not config.actor_rollout_ref.actor.use_dynamic_bsz:
        return
    shares = _sequence_parallel_size(config)
    # Of updates, and of passes without gradient.
    for key in ("actor.ppo_max_token_len_per_gpu", "rollout.log_prob_max_token_len_per_gpu"):
        limit = OmegaConf.select(config.actor_rollout_ref, key)
        if longest > limit * shares:
            raise ConfigError(
                f"actor_rollout_ref.{key}={limit}: up to {longest} tokens go into one micro-batch; set it to "
                f"{-(-longest // shares)} or more"
            )


def _check_reference(config: DictConfig) -> None:
    """A cache that the run reads is there, whole and of this very reference; one to be made can be made."""
    source = config.reference.source
    if source == "hidden" and config.actor_rollout_ref.actor.strategy != "fsdp2":
        raise ConfigError(
            "reference.source=hidden needs the weights of FSDP2: set actor_rollout_ref.actor.strategy=fsdp2"
        )
    if config.trainer.v1.trainer_mode != "cache_reference":
        identity.reference_identity(config)
        return
    if source not in SOURCES:
        raise ConfigError(f"reference.source={source}: recipe=cache_reference makes one of {', '.join(SOURCES)}")
    if source == "topk":
        require_bounds(KeptTokens, config.reference, "reference")
        vocabulary = AutoConfig.from_pretrained(local_model_dir(config.actor_rollout_ref.model.path)).vocab_size
        if config.reference.k > vocabulary:
            raise ConfigError(f"reference.k={config.reference.k}: set it to the vocabulary's {vocabulary} or less")
    if _sequence_parallel_size(config) > 1:
        raise ConfigError(
            "recipe=cache_reference writes whole sequences: set "
            "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size=1 for it; runs that read the cache may "
            "use more"
        )


def _check_gpu(config: DictConfig) -> None:
    # The driver of a Ray cluster need not have a GPU itself.
    if not torch.cuda.is_available() and not joins_cluster(config):
        raise IntegrationError(
            "no GPU on this machine: add hardware=cpu (and model=tiny task=demo for the demo's), or set RAY_ADDRESS to "
            "a cluster that has some"
        )
    chosen = (config.actor_rollout_ref.model.get("override_config") or {}).get("attn_implementation")
    trains = config.trainer.v1.trainer_mode not in SAMPLES_ONLY
    if trains and chosen is None and importlib.util.find_spec("flash_attn") is None:
        raise IntegrationError(
            "verl trains with flash attention on a GPU, and flash_attn is not installed: pip install 'fpa-verl[gpu]', "
            "or choose another with +actor_rollout_ref.model.override_config.attn_implementation=sdpa"
        )


def _check_ulysses(config: DictConfig) -> None:
    if config.actor_rollout_ref.actor.get("ulysses_sequence_parallel_size", 1) != 1:
        raise ConfigError(
            "actor_rollout_ref.actor.ulysses_sequence_parallel_size is deprecated in verl: set "
            "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size, which the reference follows"
        )
    if config.trainer.device == "cpu" and _sequence_parallel_size(config) > 1:
        raise ConfigError(
            "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size: verl shares sequences around flash "
            "attention, which needs a GPU; set it to 1"
        )


def _check_training_problems(config: DictConfig) -> None:
    files = as_list(config.data.train_files)
    folder = Path(config.rollouts)
    for name in files:
        if Path(name).parent == folder and not Path(name).exists():
            raise DatasetError(
                f"no {name}: the online run trains on the same problems as the offline ones. Make the split with "
                "`recipe=collect` first, or name a problem file of your own with data.train_files=[FILE]"
            )
    read_problems(files)


def _check_evaluation(config: DictConfig) -> None:
    for key, instead in OF_VERLS_VALIDATION.items():
        if OmegaConf.select(config, key) not in (None, -1):
            raise ConfigError(f"{key}={OmegaConf.select(config, key)} would change nothing: {instead}")
    if config.actor_rollout_ref.rollout.val_kwargs.n != config.scale.eval_samples:
        raise ConfigError(
            f"actor_rollout_ref.rollout.val_kwargs.n={config.actor_rollout_ref.rollout.val_kwargs.n}: set "
            "evaluation.samples, which holds for every problem set"
        )
    for name in set(config.evaluation) - {"samples", "seeded"}:
        raise ConfigError(
            f"evaluation.{name}={config.evaluation[name]} would change nothing: answers are sampled by "
            "actor_rollout_ref.rollout.val_kwargs (temperature, top_p, top_k), as many as evaluation.samples says"
        )
    try:
        identity.evaluation_problems(config)
    except DatasetError as error:
        held_out = f"{config.rollouts}/validation.parquet"
        raise DatasetError(
            f"{error} (data.val_files; data.val_files=[{held_out}] evaluates on the held-out problems alone)"
        ) from error


def _check_seeded(config: DictConfig) -> None:
    agent = config.actor_rollout_ref.rollout.agent
    own = agent.agent_loop_config_path or agent.default_agent_loop != "single_turn_agent"
    if config.evaluation.seeded and own:
        raise ConfigError(
            f"evaluation.seeded=true seeds verl's single turn, and actor_rollout_ref.rollout.agent asks for "
            f"{agent.default_agent_loop}: set evaluation.seeded=false"
        )


def _check_checkpoints(config: DictConfig) -> None:
    if config.actor_rollout_ref.actor.checkpoint.get("async_save"):
        raise ConfigError(
            "actor_rollout_ref.actor.checkpoint.async_save=true: nothing says when such a checkpoint is whole; set it "
            "to false"
        )


def _check_early_stopping(config: DictConfig) -> None:
    patience = config.early_stopping.patience
    if patience is None:
        return
    if config.trainer.test_freq <= 0:
        raise ConfigError(
            f"early_stopping.patience={patience} needs validations while training: set trainer.test_freq above 0"
        )
    if not any(map(is_validation, identity.evaluation_identity(config)["problem_sets"])):
        raise ConfigError(
            f"early_stopping.patience={patience} goes by held-out problems: add {config.rollouts}/validation.parquet "
            "to data.val_files"
        )
