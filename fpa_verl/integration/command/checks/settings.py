"""Numbers that nothing but an answer, a batch or a step later would find wrong."""

from __future__ import annotations

from fpa_verl.errors import ConfigError
from fpa_verl.integration.command.checks.together import together
from fpa_verl.integration.config.beams import BEAM, decodes_by_beam, require_beam
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import (
    Batches,
    Checkpoints,
    EarlyStopping,
    Evaluation,
    Foresight,
    GradientNorms,
    Length,
    Mixing,
    Optimizer,
    Reward,
    Sampling,
    Snapshots,
    TrainedSampling,
    require_bounds,
)
from fpa_verl.integration.config.trees import require_search
from fpa_verl.integration.servers.stepping import require_single_turn


def require_reading(facts: RunFacts) -> None:
    """What the batches of GRPO count, which other keys are taken from; nothing of a task without such a choice."""
    online = facts.config.scale.get("online")
    if online and "readings" in online and online.batch_counts not in online.readings:
        known = ", ".join(online.readings)
        raise ConfigError(f"scale.online.batch_counts={online.batch_counts}: choose from {known}")


def require_decoding(facts: RunFacts) -> None:
    """Refuse a search for answers that cannot be, or where nobody would search."""
    config = facts.config
    if facts.kind.trains or facts.kind.reads_runs:
        raise ConfigError(
            f"evaluation.decoding={BEAM} is recipe=evaluate's, of a model with a value head; set it to sampling here, "
            "and evaluate RUN_DIR/best afterwards"
        )
    together(facts, lambda _: require_beam(config), lambda _: require_single_turn(config))


def check(facts: RunFacts) -> None:
    """Raise ConfigError where one is out of its bounds."""
    config, rollout = facts.config, facts.config.actor_rollout_ref.rollout
    trains_online = facts.kind.trains and facts.kind.generates
    require_bounds(TrainedSampling if trains_online else Sampling, rollout, "actor_rollout_ref.rollout")
    require_bounds(Sampling, rollout.val_kwargs, "actor_rollout_ref.rollout.val_kwargs")
    require_bounds(Batches, config.data, "data")
    require_bounds(EarlyStopping, config.early_stopping, "early_stopping")
    require_bounds(Snapshots, config.snapshots, "snapshots")
    require_bounds(Reward, config.reward, "reward")
    require_bounds(Evaluation, config.evaluation, "evaluation")
    for kind, name in ((GradientNorms, "gradient_norms"), (Mixing, "mixing"), (Foresight, "foresight")):
        if name in config:
            require_bounds(kind, config[name], name)
    if facts.kind.searches:
        together(facts, lambda _: require_search(config), lambda _: require_single_turn(config))
    if facts.kind.evaluates and decodes_by_beam(config):
        require_decoding(facts)
    require_bounds(Checkpoints, config.trainer, "trainer")
    if facts.kind.trains:
        require_bounds(Length, config.trainer, "trainer")
        require_bounds(Optimizer, config.actor_rollout_ref.actor.optim, "actor_rollout_ref.actor.optim")
