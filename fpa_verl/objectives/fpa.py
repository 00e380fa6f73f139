"""FPA: offline policy gradient weighted by the future policy (arXiv 2509.19893, Eq. 3-5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.bounds import number_or
from fpa_verl.objectives.objective import AUTO, Needs, Objective
from fpa_verl.objectives.off_rl import weighted_policy_gradient
from fpa_verl.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class FPA(Objective):
    """Off-RL with the future policy's weight in place of the policy's own (Eq. 3).

        loss(y) = -R(y) pi_hat(y|x)^(1/|y|) (1/|y|) log pi_theta(y|x)

    Attributes:
        lam: extrapolation strength of the future policy (Eq. 4). 0 is Off-RL; "auto", which is ours, goes as far as the
            future policy has come true so far (`foresight`).
    """

    name = "fpa"
    lam: float | str = number_or(AUTO, 2.0, at_least=0)

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.FUTURE_POLICY} if self.lam else ())

    @property
    def extrapolation(self) -> float | None:
        return None if self.lam == AUTO else float(self.lam)

    def weights(self, batch: Trajectories) -> torch.Tensor:
        """w(y) under the future policy (Eq. 5), which at lam = 0 is the policy, (B,)."""
        if not self.lam:
            return batch.policy_weights()
        assert batch.future_weights is not None
        return batch.future_weights

    def losses(self, batch: Trajectories) -> torch.Tensor:
        return weighted_policy_gradient(batch, self.weights(batch))
