"""FPA: offline policy gradient weighted by the future policy (arXiv 2509.19893, Eq. 3-5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.bounds import one_of
from fpa_verl.objectives.objective import Needs, Objective, hyper_parameter
from fpa_verl.objectives.off_rl import weighted_policy_gradient
from fpa_verl.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class FPA(Objective):
    """Off-RL with the future policy's weight in place of the policy's own (Eq. 3).

        loss(y) = -R(y) pi_hat(y|x)^(1/|y|) (1/|y|) log pi_theta(y|x)

    Attributes:
        lam: extrapolation strength of the future policy (Eq. 4). 0 is Off-RL.
        future_weight_on: whose gradient the future policy weights, "both", "right" or "wrong" trajectories'; that
            of the others keeps the policy's own weight, as in Off-RL (Table 2, Cor. Only and Incor. Only).
    """

    name = "fpa"
    lam: float = hyper_parameter(2.0, at_least=0)
    future_weight_on: str = one_of("both", "right", "wrong")

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.FUTURE_POLICY} if self.lam else ())

    @property
    def extrapolation(self) -> float:
        return self.lam

    def weights(self, batch: Trajectories) -> torch.Tensor:
        """w(y) under the future policy (Eq. 5), which at lam = 0 is the policy, (B,)."""
        own, future = batch.policy_weights(), batch.future_weights
        if not self.lam:
            return own
        assert future is not None
        if self.future_weight_on == "both":
            return future
        is_right = batch.rewards > 0
        return torch.where(is_right if self.future_weight_on == "right" else ~is_right, future, own)

    def losses(self, batch: Trajectories) -> torch.Tensor:
        return weighted_policy_gradient(batch, self.weights(batch))
