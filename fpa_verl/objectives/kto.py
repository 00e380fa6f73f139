"""KTO (arXiv 2509.19893, B.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.bounds import one_of
from fpa_verl.objectives.objective import Needs, Objective, hyper_parameter
from fpa_verl.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class KTO(Objective):
    """Gain or loss against a reference point, for single trajectories.

        right:  loss(y) = lambda_w (1 - sigmoid( beta (log-ratio(y) - z0) ))
        wrong:  loss(y) = lambda_l (1 - sigmoid( beta (z0 - log-ratio(y)) ))

    Attributes:
        beta: steepness.
        lambda_w: weight of right trajectories.
        lambda_l: weight of wrong trajectories.
        z0: "mean", the mean log-ratio as the paper prints it, or "clamped", that but not below 0, as an
            estimate of KL(pi_theta || pi_ref) is in KTO's own paper (arXiv 2402.01306).

    Where the paper is silent:
        1. z0 is the mean over the data. Over all of them it would take a pass over the dataset in every
           step: it is that of the global batch, and carries no gradient.
        2. beta is DPO's, which is 0.1 "throughout".
    """

    name = "kto"
    beta: float = hyper_parameter(0.1, above=0)
    lambda_w: float = hyper_parameter(1.0, at_least=0)
    lambda_l: float = hyper_parameter(1.0, at_least=0)
    z0: str = one_of("mean", "clamped")

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.REFERENCE, Needs.REFERENCE_POINT})

    def reference_point(self, mean_log_ratio: torch.Tensor) -> torch.Tensor:
        return mean_log_ratio.clamp(min=0) if self.z0 == "clamped" else mean_log_ratio

    def losses(self, batch: Trajectories) -> torch.Tensor:
        assert batch.reference_point is not None
        gain = self.beta * (batch.log_ratio() - batch.reference_point.detach())
        is_right = batch.rewards > 0
        weights = torch.where(is_right, self.lambda_w, self.lambda_l)
        return weights * (1 - torch.sigmoid(torch.where(is_right, gain, -gain)))
