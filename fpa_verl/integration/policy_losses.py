"""The offline objectives as verl policy losses, and R in {+1, -1} as a verl advantage."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from verl.workers.config import PolicyLossConfig

from fpa_verl.errors import ConfigError, IntegrationError
from fpa_verl.objectives import policy_gradient_terms, trajectory_weights

LOSS_AGG_MODE = "seq-mean-token-mean"


@dataclass
class OfflinePolicyLossConfig(PolicyLossConfig):
    """Hyper-parameters of the offline objectives; named by `_target_` in the recipes.

    Attributes:
        lam: lambda of the future policy (Eq. 4); for `fpa` only, null elsewhere.
        scoring_temperature: logits are divided by this before they are scored, policy and
            reference alike. Not the sampling temperature.
    """

    loss_mode: str = "fpa"
    lam: float | None = None
    scoring_temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.loss_mode == "fpa" and (self.lam is None or not 0 <= self.lam <= 100):
            raise ConfigError(f"actor_rollout_ref.actor.policy_loss.lam={self.lam}: fpa needs a number from 0 to 100")
        if self.loss_mode != "fpa" and self.lam is not None:
            raise ConfigError(
                f"actor_rollout_ref.actor.policy_loss.lam={self.lam} does not apply to {self.loss_mode}: set it to null"
            )
        if not self.scoring_temperature > 0:
            raise ConfigError(
                f"actor_rollout_ref.actor.policy_loss.scoring_temperature={self.scoring_temperature} must be above 0"
            )


def needs_future_policy(policy_loss: Any) -> bool:
    """Whether the objective asks for the reference's logits: `fpa` with lambda above 0."""
    return policy_loss.loss_mode == "fpa" and bool(policy_loss.lam)


def _aggregate(terms: torch.Tensor, response_mask: torch.Tensor, loss_agg_mode: str, config: Any) -> torch.Tensor:
    from verl.trainer.ppo.core_algos import agg_loss

    if loss_agg_mode != LOSS_AGG_MODE:
        raise ConfigError(
            f"actor_rollout_ref.actor.loss_agg_mode={loss_agg_mode}: the offline objectives average each "
            f"trajectory over its tokens first; set it to {LOSS_AGG_MODE}"
        )
    return agg_loss(terms, response_mask, loss_agg_mode, **config.global_batch_info)


def off_rl(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    loss_agg_mode: str = LOSS_AGG_MODE,
    config: Any = None,
    rollout_is_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Off-RL (Eq. 1-2): weights from the policy itself. Shapes (B, T); `advantages` holds R."""
    weights = trajectory_weights(log_prob, response_mask)
    terms = policy_gradient_terms(log_prob, weights, advantages)
    return _aggregate(terms, response_mask, loss_agg_mode, config), {}


def fpa(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    loss_agg_mode: str = LOSS_AGG_MODE,
    config: Any = None,
    rollout_is_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """FPA (Eq. 3): weights from the future policy, handed over as `rollout_is_weights`, shape (B,)."""
    if rollout_is_weights is None:
        raise IntegrationError(
            "the policy loss 'fpa' got no future-policy weights: it needs trainer.v1.trainer_mode=offline "
            "(as recipe=fpa_offline sets it)"
        )
    terms = policy_gradient_terms(log_prob, rollout_is_weights, advantages)
    return _aggregate(terms, response_mask, loss_agg_mode, config), {}


def signed_reward(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, config: Any = None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """R = +1 for a right trajectory (score 1), -1 for any other, on every response token; shapes (B, T)."""
    is_right = token_level_rewards.sum(-1, keepdim=True) > 0.5
    signs = torch.where(is_right, 1.0, -1.0) * response_mask
    return signs, signs


POLICY_LOSSES = {"off_rl": off_rl, "fpa": fpa}
ADVANTAGE = "signed_reward"


def register(core_algos: ModuleType) -> None:
    """Enter the objectives into verl's registries, refusing a name that somebody else took."""
    for name, loss in POLICY_LOSSES.items():
        if core_algos.POLICY_LOSS_REGISTRY.get(name, loss) is not loss:
            raise IntegrationError(
                f"the policy loss '{name}' is registered already by "
                f"{core_algos.POLICY_LOSS_REGISTRY[name].__module__}: remove one of the two plugins"
            )
        core_algos.register_policy_loss(name)(loss)
    core_algos.register_adv_est(ADVANTAGE)(signed_reward)
