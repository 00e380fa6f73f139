"""Rejection fine-tuning (arXiv 2509.19893, B.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.objectives.objective import Objective
from fpa_verl.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class SFT(Objective):
    """Maximum likelihood of the right trajectories: loss(y) = -(1/|y|) log pi_theta(y|x).

    Where the paper is silent:
        1. Each trajectory is averaged over its tokens first, as in every other objective here, not
           the batch over all of its tokens.
        2. Right trajectories come from the same mixed groups as everybody's data, so that all
           objectives see the same problems; groups that are all right are left out.
    """

    name = "sft"

    def losses(self, batch: Trajectories) -> torch.Tensor:
        # The recipe selects right trajectories; a wrong one would not be imitated either.
        return torch.where(batch.rewards > 0, -batch.mean_log_prob(), 0.0)
