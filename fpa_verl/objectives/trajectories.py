"""What an objective sees of a batch: per-token log-probabilities and what is known of each trajectory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from fpa_verl.objectives.step_ends import StepEnds
from fpa_verl.roles import Roles


def sequence_sum(values: torch.Tensor, response_mask: torch.Tensor) -> torch.Tensor:
    """Sum over the response tokens, (B, T) -> (B,)."""
    # where() and not a product: padding may hold inf or NaN, and 0 * inf is NaN.
    return torch.where(response_mask.bool(), values, values.new_zeros(())).sum(-1)


def sequence_mean(values: torch.Tensor, response_mask: torch.Tensor) -> torch.Tensor:
    """Mean over the response tokens, (B, T) -> (B,); 0 for a row that is masked throughout."""
    return sequence_sum(values, response_mask) / response_mask.sum(-1).clamp(min=1)


def error_of_mean(errors: torch.Tensor, response_mask: torch.Tensor) -> torch.Tensor:
    """Standard error of the mean over the response tokens, from those of the tokens, (B, T) -> (B,)."""
    return (sequence_mean(errors.square(), response_mask) / response_mask.sum(-1).clamp(min=1)).sqrt()


@torch.no_grad()
def trajectory_weights(log_probs: torch.Tensor, response_mask: torch.Tensor) -> torch.Tensor:
    """Length-normalised probability of each trajectory, detached, shape (B,).

    w(y) = exp( (1/|y|) sum_t log p(y_t) )        (Eq. 2 with p = pi_theta, Eq. 5 with p = pi_hat)
    """
    return sequence_mean(log_probs, response_mask).exp()


@dataclass(frozen=True)
class Trajectories:
    """A batch of scored trajectories; |y| is the number of response tokens under the mask.

    Attributes:
        log_probs: log pi_theta of the response tokens, (B, T); with `step_ends` the only input that carries gradient.
        response_mask: which of them count, (B, T).
        rewards: R in {+1, -1}, (B,): +1 where the scorer says right.
        ref_log_probs: log pi_ref of the same tokens, (B, T); pi_ref is the base model, which also
            wrote the trajectories. None unless the objective asks for it.
        future_weights: w(y) under the future policy (Eq. 5), (B,). None unless asked for.
        reference_point: z0 of KTO, a scalar of the global batch. None unless asked for.
        mean_length: response tokens of the global batch over its trajectories. None where nobody counted.
        pass_rates: share of right trajectories in the whole group of each, (B,). None unless asked for.
        mixing_weight: alpha of BVPO, where it is estimated while a run trains. None unless asked for.
        step_ends: a value head's word at the ends of steps, with gradient. None unless asked for.
        roles: B of them, what each row is in its item; needed where an item is several rows.
    """

    log_probs: torch.Tensor
    response_mask: torch.Tensor
    rewards: torch.Tensor
    ref_log_probs: torch.Tensor | None = None
    future_weights: torch.Tensor | None = None
    reference_point: torch.Tensor | None = None
    mean_length: float | None = None
    pass_rates: torch.Tensor | None = None
    mixing_weight: float | None = None
    step_ends: StepEnds | None = None
    roles: Roles | None = None

    def of_rows(self, rows: torch.Tensor) -> Trajectories:
        """Some rows of the batch by their places, (b,); what belongs to the global batch stays as it is."""
        by_row = ("log_probs", "response_mask", "rewards", "ref_log_probs", "future_weights", "pass_rates")
        taken = {name: value[rows] for name in by_row if (value := getattr(self, name)) is not None}
        roles = None if self.roles is None else tuple(self.roles[row] for row in rows.tolist())
        ends = None if self.step_ends is None else self.step_ends.of_rows(rows)
        return replace(self, **taken, roles=roles, step_ends=ends)

    def log_prob(self) -> torch.Tensor:
        """Log-probability of each trajectory under the policy, (B,)."""
        return sequence_sum(self.log_probs, self.response_mask)

    def mean_log_prob(self) -> torch.Tensor:
        """The same a token, (1/|y|) log pi_theta(y|x), (B,)."""
        return sequence_mean(self.log_probs, self.response_mask)

    def log_ratio(self) -> torch.Tensor:
        """Its log-probability under the policy less that under the reference, (B,)."""
        assert self.ref_log_probs is not None
        return sequence_sum(self.log_probs - self.ref_log_probs, self.response_mask)

    def policy_weights(self) -> torch.Tensor:
        """w(y) under the policy itself (Eq. 2), detached, (B,)."""
        return trajectory_weights(self.log_probs, self.response_mask)
