"""Numbers that nothing but an answer, a batch or a step later would find wrong."""

from __future__ import annotations

from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import (
    Batches,
    Checkpoints,
    EarlyStopping,
    Evaluation,
    GradientNorms,
    Sampling,
    TrainedSampling,
    require_bounds,
)


def check(facts: RunFacts) -> None:
    """Raise ConfigError where one is out of its bounds."""
    config, rollout = facts.config, facts.config.actor_rollout_ref.rollout
    trains_online = facts.kind.trains and facts.kind.generates
    require_bounds(TrainedSampling if trains_online else Sampling, rollout, "actor_rollout_ref.rollout")
    require_bounds(Sampling, rollout.val_kwargs, "actor_rollout_ref.rollout.val_kwargs")
    require_bounds(Batches, config.data, "data")
    require_bounds(EarlyStopping, config.early_stopping, "early_stopping")
    require_bounds(Evaluation, config.evaluation, "evaluation")
    if "gradient_norms" in config:
        require_bounds(GradientNorms, config.gradient_norms, "gradient_norms")
    require_bounds(Checkpoints, config.trainer, "trainer")
