"""Off-RL: offline policy gradient weighted by the policy itself (arXiv 2509.19893, Eq. 1-2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.objectives.objective import Objective
from fpa_verl.objectives.trajectories import Trajectories


def weighted_policy_gradient(batch: Trajectories, weights: torch.Tensor) -> torch.Tensor:
    """-R(y) w(y) (1/|y|) log pi_theta(y), (B,): raises right trajectories and lowers wrong ones."""
    return -batch.rewards * weights.detach() * batch.mean_log_prob()


@dataclass(frozen=True)
class OffRL(Objective):
    """Ascent of J = E[ R pi_theta(y|x)^(1/|y|) ], as a policy gradient with a detached weight (Eq. 2).

        loss(y) = -R(y) pi_theta(y|x)^(1/|y|) (1/|y|) log pi_theta(y|x)

    R is +1 for a right trajectory and -1 for any other.
    """

    name = "off_rl"

    def losses(self, batch: Trajectories) -> torch.Tensor:
        return weighted_policy_gradient(batch, batch.policy_weights())
