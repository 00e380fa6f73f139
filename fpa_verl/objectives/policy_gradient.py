"""Off-RL and FPA: policy gradients whose per-trajectory weight carries no gradient.

Rewards are R in {+1, -1}; |y| is the number of response tokens under the mask.
"""

from __future__ import annotations

import torch


def sequence_mean(values: torch.Tensor, response_mask: torch.Tensor) -> torch.Tensor:
    """Mean over the response tokens, (B, T) -> (B,); 0 for a row that is masked throughout."""
    mask = response_mask.to(values.dtype)
    # where() and not a product: padding may hold inf or NaN, and 0 * inf is NaN.
    total = torch.where(mask.bool(), values, values.new_zeros(())).sum(-1)
    return total / mask.sum(-1).clamp(min=1)


@torch.no_grad()
def trajectory_weights(log_probs: torch.Tensor, response_mask: torch.Tensor) -> torch.Tensor:
    """Length-normalised probability of each trajectory, detached, shape (B,).

    w(y) = exp( (1/|y|) sum_t log p(y_t) )        (Eq. 2 with p = pi_theta, Eq. 5 with p = pi_hat)
    """
    return sequence_mean(log_probs, response_mask).exp()


def policy_gradient_terms(log_probs: torch.Tensor, weights: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """Per-token terms -R(y) w(y) log pi_theta(y_t), shape (B, T).

    Minimising their seq-mean-token-mean raises right trajectories (R = +1) and lowers wrong ones.

    Args:
        log_probs: log pi_theta of the response tokens, (B, T); the only input that carries gradient.
        weights: (B,) or (B, T), from `trajectory_weights`.
        rewards: R, (B,) or (B, T).
    """
    weights, rewards = (x if x.dim() == 2 else x.unsqueeze(-1) for x in (weights.detach(), rewards))
    return -(rewards * weights) * log_probs


def policy_gradient_loss(
    log_probs: torch.Tensor,
    weights: torch.Tensor,
    rewards: torch.Tensor,
    response_mask: torch.Tensor,
) -> torch.Tensor:
    """Off-RL (Eq. 1) or FPA (Eq. 3) over a whole batch, by where the weights come from.

        loss = - mean_y [ R(y) w(y) (1/|y|) sum_t log pi_theta(y_t) ]

    Inside verl the same terms are averaged by `agg_loss(..., "seq-mean-token-mean")`, which knows
    the size of the global batch; this form is for a batch that stands alone.
    """
    terms = policy_gradient_terms(log_probs, weights, rewards)
    return sequence_mean(terms, response_mask).mean()
