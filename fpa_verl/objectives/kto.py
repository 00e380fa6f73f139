"""KTO (arXiv 2509.19893, B.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.objectives.objective import Needs, Objective, hyper_parameter
from fpa_verl.objectives.trajectories import Trajectories


def reference_point(log_ratios: torch.Tensor) -> torch.Tensor:
    """max(0, mean log-ratio) over the trajectories of the global batch, (B,) -> (), for KL(pi_theta || pi_ref)."""
    return log_ratios.mean().clamp(min=0)


@dataclass(frozen=True)
class KTO(Objective):
    """Gain or loss against a reference point, for single trajectories.

        right:  loss(y) = lambda_w (1 - sigmoid( beta (log-ratio(y) - z0) ))
        wrong:  loss(y) = lambda_l (1 - sigmoid( beta (z0 - log-ratio(y)) ))

    Attributes:
        beta: steepness.
        lambda_w: weight of right trajectories.
        lambda_l: weight of wrong trajectories.

    Where the paper is silent:
        1. z0 is KL(pi_theta || pi_ref), estimated as the mean log-ratio over the trajectories of the
           global batch, not below 0 and without gradient. KTO's authors take mismatched pairs of prompt
           and response for this; E over the dataset, as here, is how later papers state it.
        2. beta is DPO's.
    """

    name = "kto"
    beta: float = hyper_parameter(0.1, above=0)
    lambda_w: float = hyper_parameter(1.0, at_least=0)
    lambda_l: float = hyper_parameter(1.0, at_least=0)

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.REFERENCE, Needs.REFERENCE_POINT})

    def losses(self, batch: Trajectories) -> torch.Tensor:
        assert batch.reference_point is not None
        gain = self.beta * (batch.log_ratio() - batch.reference_point.detach())
        is_right = batch.rewards > 0
        weights = torch.where(is_right, self.lambda_w, self.lambda_l)
        return weights * (1 - torch.sigmoid(torch.where(is_right, gain, -gain)))
