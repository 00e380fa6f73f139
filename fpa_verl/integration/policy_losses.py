"""What verl's registries know of us: the offline policy loss as a configuration, the objectives, and R as an advantage.

The offline trainer's engine calls an objective itself (`workers.loss`). verl's registry of policy losses holds a thin
adapter of each, for those who look there and for loops of one's own:

    log_prob             log pi_theta of the response tokens
    old_log_prob         log pi_ref: the reference is the policy that wrote the trajectories
    advantages           R in {+1, -1}
    rollout_is_weights   the future policy's weights
    rows                 of pairs, chosen and rejected in turn, known by R
    config               hyper-parameters, and in `global_batch_info` the sizes of the whole batch

It has no place for what belongs to several trajectories: there, `kto` and `a_star_po` say what they lack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from verl.workers.config import PolicyLossConfig

from fpa_verl.errors import ConfigError, IntegrationError
from fpa_verl.objectives import OBJECTIVES, Needs, Objective, Trajectories
from fpa_verl.roles import CHOSEN, REJECTED, SINGLE, Roles
from fpa_verl.rollouts.reference_cache import SOURCES

KEY = "actor_rollout_ref.actor.policy_loss"
LOSS_AGG_MODE = "seq-mean-token-mean"
ADVANTAGE = "signed_reward"

REFERENCES = ("forward", *SOURCES)
WHOLE_DISTRIBUTIONS = ("forward", "hidden")

FORWARD_KL = {"forward_kl_over": ("tokens", "sequence"), "forward_kl_estimate": ("whole", "sampled")}
# verl's own losses that make sense on stored trajectories, with what they need.
VERL_LOSSES = {"dro": frozenset({Needs.REFERENCE})}


@dataclass
class OfflinePolicyLossConfig(PolicyLossConfig):
    """What the offline trainer's policy loss is made of; `offline_policy_loss` builds it.

    Attributes:
        objective: the objective with its hyper-parameters; None for one of `VERL_LOSSES`.
        scoring_temperature: logits are divided by this before they are scored, policy and
            reference alike. Not the sampling temperature.
        forward_kl_coef: tau of the forward KL added to any objective (B.6, Eq. 33); 0 adds nothing.
        forward_kl_over: "tokens", the mean over a response's tokens; or "sequence", their sum, which is the KL of whole
            responses that Eq. 31 prints. The paper takes its tau, 0.04, from GRPO, whose KL is a mean over tokens and
            some hundred times smaller: hence the first.
        forward_kl_estimate: "whole", the KL of the next token over the whole vocabulary; or "sampled", the log-ratio of
            the token that was sampled, as Eq. 31 prints it: the same on average, with noise.
        track_reference: hold the reference for the training dynamics, where the objective itself
            does not ask for it. Costs one forward a step where it is not cached.
        reference: source of the reference: "forward", or that of a cache.
        reference_cache: the cache's folder.
        reference_model: of another reference than the model that the run begins with.
    """

    objective: Objective | None = None
    scoring_temperature: float = 1.0
    forward_kl_coef: float = 0.0
    forward_kl_over: str = "tokens"
    forward_kl_estimate: str = "whole"
    track_reference: bool = False
    reference: str = "forward"
    reference_cache: str | None = None
    reference_model: str | None = None

    def __post_init__(self) -> None:
        if not self.scoring_temperature > 0:
            raise ConfigError(f"{KEY}.scoring_temperature={self.scoring_temperature} must be above 0")
        if not self.forward_kl_coef >= 0:
            raise ConfigError(f"{KEY}.forward_kl_coef={self.forward_kl_coef} must be at least 0")
        if self.reference not in REFERENCES:
            raise ConfigError(f"reference.source={self.reference}: choose from {', '.join(REFERENCES)}")
        for name, known in FORWARD_KL.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{KEY}.{name}={getattr(self, name)}: choose from {', '.join(known)}")
        whole = self.forward_kl_coef and self.forward_kl_estimate == "whole"
        if whole and self.reference not in WHOLE_DISTRIBUTIONS:
            raise ConfigError(
                f"reference.source={self.reference} keeps no whole distribution, which {KEY}.forward_kl_coef needs: "
                f"set it to {' or '.join(WHOLE_DISTRIBUTIONS)}"
            )

    @property
    def needs(self) -> frozenset[Needs]:
        """What the step must supply beside the policy's log-probabilities."""
        needs = VERL_LOSSES[self.loss_mode] if self.objective is None else self.objective.needs
        return needs | {Needs.REFERENCE} if self.forward_kl_coef or self.track_reference else needs

    @property
    def needs_reference(self) -> bool:
        """Whether the step must ask the reference for anything."""
        return not self.needs <= {Needs.PASS_RATES, Needs.MEAN_LENGTH, Needs.MIXING_WEIGHT, Needs.STEP_VALUES}

    @property
    def trains_value_head(self) -> bool:
        """Whether the actor has a value head, which learns from the values of steps."""
        return Needs.STEP_VALUES in self.needs

    @property
    def passes_reference(self) -> bool:
        """Whether the reference is asked by a forward pass of its own in every step, and not from a cache."""
        return self.needs_reference and self.reference == "forward"

    @property
    def forward_passes(self) -> int:
        """How many a step makes beside the policy's forward and backward pass, each over all tokens of the batch."""
        asked = int(self.passes_reference)
        # z0 is found first, from the log-ratios of the whole batch.
        return asked + (1 + asked if Needs.REFERENCE_POINT in self.needs else 0)

    @property
    def roles(self) -> Roles:
        """Adjacent rows of a batch that no split may take apart."""
        return SINGLE if self.objective is None else self.objective.roles


def offline_policy_loss(loss_mode: str, **settings: Any) -> OfflinePolicyLossConfig:
    """`_target_` of the recipes' policy loss: the objective's own keys beside verl's and ours.

    Raises:
        ConfigError: no such objective; a hyper-parameter that does not apply to it or is out of bounds.
    """
    shared = {field.name for field in dataclasses.fields(OfflinePolicyLossConfig)}
    own = {name: settings.pop(name) for name in set(settings) - shared}
    if loss_mode not in OBJECTIVES and loss_mode not in VERL_LOSSES:
        known = ", ".join(sorted([*OBJECTIVES, *VERL_LOSSES]))
        raise ConfigError(f"{KEY}.loss_mode={loss_mode}: the offline trainer has {known}")
    kind = OBJECTIVES.get(loss_mode)
    known_keys = {field.name for field in dataclasses.fields(kind)} if kind else set()
    if alien := sorted(set(own) - known_keys):
        raise ConfigError(
            f"{KEY}.{alien[0]}={own[alien[0]]} does not apply to {loss_mode}, which takes "
            f"{', '.join(sorted(known_keys)) or 'no hyper-parameter'}: remove it"
        )
    try:
        objective = kind(**own) if kind else None
    except ValueError as error:
        raise ConfigError(f"{KEY}.{error}") from error
    return OfflinePolicyLossConfig(loss_mode=loss_mode, objective=objective, **settings)


def global_mean(losses: torch.Tensor, rows_per_item: int, batch: Mapping[str, Any]) -> torch.Tensor:
    """A micro-batch's share of the mean over the items of the global batch, as verl's `agg_loss` has it.

    Args:
        losses: one for each item of a micro-batch.
        rows_per_item: rows of an item.
        batch: `global_batch_size` in rows, and `dp_size`, over whose workers verl averages gradients.
    """
    return losses.sum() / (batch["global_batch_size"] / rows_per_item) * batch["dp_size"]


def _roles(objective: Objective, rewards: torch.Tensor) -> Roles:
    """Roles of rows that come without them."""
    if objective.roles == SINGLE:
        return SINGLE * len(rewards)
    return tuple(CHOSEN if reward > 0 else REJECTED for reward in rewards.tolist())


def as_policy_loss(kind: type[Objective]) -> Any:
    """An objective behind verl's policy-loss signature."""

    def policy_loss(
        old_log_prob: torch.Tensor,
        log_prob: torch.Tensor,
        advantages: torch.Tensor,
        response_mask: torch.Tensor,
        loss_agg_mode: str = LOSS_AGG_MODE,
        config: Any = None,
        rollout_is_weights: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, dict[str, float]]:
        objective = getattr(config.policy_loss, "objective", None)
        if not isinstance(objective, kind):
            raise IntegrationError(
                f"the policy loss '{kind.name}' needs the recipes' configuration "
                f"({KEY}._target_=fpa_verl.integration.policy_losses.offline_policy_loss)"
            )
        if loss_agg_mode != LOSS_AGG_MODE:
            raise ConfigError(
                f"actor_rollout_ref.actor.loss_agg_mode={loss_agg_mode}: the offline objectives say themselves how "
                f"tokens are averaged; set it to {LOSS_AGG_MODE}"
            )
        sizes = config.global_batch_info
        batch = Trajectories(
            log_probs=log_prob,
            response_mask=response_mask,
            # Every response has a first token; R is the same on all of them.
            rewards=advantages[:, 0],
            ref_log_probs=old_log_prob,
            future_weights=rollout_is_weights,
            mean_length=sizes["batch_num_tokens"] / sizes["global_batch_size"] if "batch_num_tokens" in sizes else None,
            roles=_roles(objective, advantages[:, 0]),
        )
        if missing := objective.missing(batch):
            raise IntegrationError(
                f"the policy loss '{objective.name}' got no {missing[0].value}: it needs "
                "trainer.v1.trainer_mode=offline (as the offline recipes set it)"
            )
        return global_mean(objective(batch), objective.rows_per_item, sizes), {}

    policy_loss.__doc__ = kind.__doc__
    policy_loss.__name__ = policy_loss.__qualname__ = kind.name
    return policy_loss


def signed_reward(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, config: Any = None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """R = +1 for a right trajectory (score 1), -1 for any other, on every response token; shapes (B, T)."""
    is_right = token_level_rewards.sum(-1, keepdim=True) > 0.5
    signs = torch.where(is_right, 1.0, -1.0) * response_mask
    return signs, signs


POLICY_LOSSES = {name: as_policy_loss(kind) for name, kind in OBJECTIVES.items()}


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
