"""TOPR: tapered off-policy REINFORCE (arXiv 2503.14286)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.objectives.objective import Needs, Objective
from fpa_verl.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class TOPR(Objective):
    """Right trajectories as they are, wrong ones by their truncated importance ratio.

        right:  loss(y) = -log pi_theta(y|x)
        wrong:  loss(y) = clip(pi_theta(y|x) / mu(y|x), 0, 1) log pi_theta(y|x)     (ratio detached)

    Where the paper leaves a choice:
        1. mu, which wrote the trajectories, is the reference at the scoring temperature, so that the
           ratio is 1 at the start whatever the sampling temperature was.
        2. No baseline: R is +1 or -1.
    """

    name = "topr"

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.REFERENCE})

    def losses(self, batch: Trajectories) -> torch.Tensor:
        taper = batch.log_ratio().detach().clamp(max=0).exp()
        return torch.where(batch.rewards > 0, -1.0, taper) * batch.log_prob()
