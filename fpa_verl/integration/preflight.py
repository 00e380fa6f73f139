"""Checks before Ray starts, and the summary after a collection: one line for each way to go wrong."""

from __future__ import annotations

import os
from pathlib import Path

from hydra.errors import InstantiationException
from omegaconf import DictConfig

from fpa_verl.errors import ConfigError, DatasetError, FpaError, IntegrationError, MismatchError
from fpa_verl.integration import identity
from fpa_verl.integration.settings import as_list, validates
from fpa_verl.integration.versions import check_verl
from fpa_verl.rollouts.dataset import RolloutDataset, Selection
from fpa_verl.rollouts.manifest import read_manifest
from fpa_verl.rollouts.problems import read_problems


def check(config: DictConfig) -> None:
    """Refuse what could not train, before anything is started.

    Raises:
        FpaError: of the kind that fits, saying what is wrong, where, and what to type.
    """
    check_verl()
    _check_plugin_loaded()
    mode = config.trainer.v1.trainer_mode
    if mode == "offline":
        _check_objective(config)
        _check_rollouts(config)
    else:
        read_problems(as_list(config.data.train_files))
    if mode != "collect":
        _check_evaluation(config)
    identity.model_identity(config)


def _check_plugin_loaded() -> None:
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


def _check_objective(config: DictConfig) -> None:
    from verl.utils.config import omega_conf_to_dataclass

    try:
        actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    except InstantiationException as error:
        # hydra wraps what a dataclass says about its own values.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, FpaError):
            cause = cause.__cause__
        raise cause or ConfigError(f"actor_rollout_ref.actor: {' '.join(str(error).split())}") from error
    from fpa_verl.integration.policy_losses import LOSS_AGG_MODE, POLICY_LOSSES

    if actor.policy_loss.loss_mode not in POLICY_LOSSES:
        raise ConfigError(
            f"actor_rollout_ref.actor.policy_loss.loss_mode={actor.policy_loss.loss_mode}: the offline trainer has "
            f"{', '.join(sorted(POLICY_LOSSES))}"
        )
    if actor.loss_agg_mode != LOSS_AGG_MODE:
        raise ConfigError(f"actor_rollout_ref.actor.loss_agg_mode={actor.loss_agg_mode}: set it to {LOSS_AGG_MODE}")
    if actor.ppo_epochs != 1:
        raise ConfigError(
            f"actor_rollout_ref.actor.ppo_epochs={actor.ppo_epochs}: a batch is trained on once; set it to 1"
        )


def _check_rollouts(config: DictConfig) -> None:
    folder = as_list(config.data.train_files)[0]
    manifest = read_manifest(Path(folder).expanduser())
    mine = identity.model_identity(config)
    for name in ("tokenizer", "template", "model"):
        made_with = manifest.fingerprints.get(name)
        if made_with is not None and made_with != mine[name]:
            raise MismatchError(
                f"{folder} was made with another {name} ({made_with}) than {config.actor_rollout_ref.model.path} "
                f"({mine[name]}): set actor_rollout_ref.model.path to the model that made it, or collect again "
                "with this one"
            )
    RolloutDataset(folder, Selection(**config.data.selection)).require_items(config.data.train_batch_size)


def _check_evaluation(config: DictConfig) -> None:
    if not validates(config):
        return
    try:
        read_problems(as_list(config.data.val_files))
    except DatasetError as error:
        raise DatasetError(
            f"{error}. (data.val_files; to do without: trainer.test_freq=-1 trainer.val_before_train=false)"
        ) from error


def after(config: DictConfig) -> None:
    """After `collect`: say what was collected, and fail where nothing of it can train."""
    if config.trainer.v1.trainer_mode != "collect":
        return
    dataset = RolloutDataset(config.rollouts)
    counts = dataset.manifest.counts
    print(f"{config.rollouts}: " + ", ".join(f"{name} {value:,}" for name, value in counts.items()))
    dataset.require_items(1)
