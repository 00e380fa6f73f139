"""Rejection fine-tuning (arXiv 2509.19893, B.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.bounds import one_of
from fpa_verl.objectives.objective import Needs, Objective
from fpa_verl.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class SFT(Objective):
    """Maximum likelihood of the right trajectories.

        mean_over "tokens":         loss(y) = -log pi_theta(y|x) / (tokens a trajectory of the batch)
        mean_over "trajectories":   loss(y) = -(1/|y|) log pi_theta(y|x)

    Attributes:
        mean_over: what counts alike in a batch. "tokens" is the loss that the paper calls standard: it
            prints no 1/|y|, and trainers average over all tokens of a batch.

    Where the paper is silent:
        1. Right trajectories come from the same mixed groups as everybody's data, so that all
           objectives see the same problems; groups that are all right are left out.
    """

    name = "sft"
    mean_over: str = one_of("tokens", "trajectories")

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.MEAN_LENGTH} if self.mean_over == "tokens" else ())

    def losses(self, batch: Trajectories) -> torch.Tensor:
        if self.mean_over == "trajectories":
            likelihood = batch.mean_log_prob()
        else:
            assert batch.mean_length is not None
            likelihood = batch.log_prob() / batch.mean_length
        # The recipe selects right trajectories; a wrong one would not be imitated either.
        return torch.where(batch.rewards > 0, -likelihood, 0.0)
