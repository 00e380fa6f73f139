"""How a run is measured, and what follows from that: the best model, early stopping, checkpoints."""

from __future__ import annotations

from omegaconf import OmegaConf

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.rollouts.schema import is_validation

# Settings of verl's own validation, which the plugin's evaluation stands in for.
OF_VERLS_VALIDATION = {
    "data.val_max_samples": "set evaluation.samples, or name a smaller file in data.val_files",
    "data.val_batch_size": "all answers are asked for at once; leave it null",
    "trainer.validation_data_dir": "the answers are kept in run_dir/samples; leave it null",
}


def check(facts: RunFacts) -> None:
    """Refuse evaluation problems that are not there, and settings that would change nothing.

    Raises:
        ConfigError: a setting.
        DatasetError: the problems.
    """
    if not facts.kind.evaluates:
        return
    refuse_verls_validation(facts)
    refuse_other_sampling(facts)
    # Reading them finds what is wrong with them.
    _ = facts.evaluation_problems
    require_something_to_stop_by(facts)
    require_whole_checkpoints(facts)


def refuse_verls_validation(facts: RunFacts) -> None:
    for key, instead in OF_VERLS_VALIDATION.items():
        if OmegaConf.select(facts.config, key) not in (None, -1):
            raise ConfigError(f"{key}={OmegaConf.select(facts.config, key)} would change nothing: {instead}")


def refuse_other_sampling(facts: RunFacts) -> None:
    config, sampling = facts.config, facts.config.actor_rollout_ref.rollout.val_kwargs
    if sampling.n != config.scale.eval_samples:
        raise ConfigError(
            f"actor_rollout_ref.rollout.val_kwargs.n={sampling.n}: set evaluation.samples, which holds for every "
            "problem set"
        )
    for name in set(config.evaluation) - {"samples", "seeded"}:
        raise ConfigError(
            f"evaluation.{name}={config.evaluation[name]} would change nothing: answers are sampled by "
            "actor_rollout_ref.rollout.val_kwargs (temperature, top_p, top_k), as many as evaluation.samples says"
        )


def require_something_to_stop_by(facts: RunFacts) -> None:
    patience = facts.config.early_stopping.patience
    if patience is None:
        return
    if facts.config.trainer.test_freq <= 0:
        raise ConfigError(
            f"early_stopping.patience={patience} needs validations while training: set trainer.test_freq above 0"
        )
    if not any(map(is_validation, facts.evaluation["problem_sets"])):
        raise ConfigError(
            f"early_stopping.patience={patience} goes by held-out problems: add "
            f"{facts.config.rollouts}/validation.parquet to data.val_files"
        )


def require_whole_checkpoints(facts: RunFacts) -> None:
    if facts.config.actor_rollout_ref.actor.checkpoint.get("async_save"):
        raise ConfigError(
            "actor_rollout_ref.actor.checkpoint.async_save=true: nothing says when such a checkpoint is whole; set it "
            "to false"
        )
