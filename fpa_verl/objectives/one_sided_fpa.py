"""FPA on one side, the ablations Cor. Only and Incor. Only (arXiv 2509.19893, Table 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.bounds import one_of
from fpa_verl.objectives.fpa import FPA
from fpa_verl.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class OneSidedFPA(FPA):
    """FPA whose future policy weights right, or wrong, trajectories; the others keep Off-RL's own weight.

    Attributes:
        lam: extrapolation strength of the future policy (Eq. 4), as in `FPA`. 0 is Off-RL.
        future_weight_on: "right" (Cor. Only) or "wrong" (Incor. Only).
    """

    name = "fpa_one_sided"
    future_weight_on: str = one_of("right", "wrong")

    def weights(self, batch: Trajectories) -> torch.Tensor:
        is_right = batch.rewards > 0
        chosen = is_right if self.future_weight_on == "right" else ~is_right
        return torch.where(chosen, super().weights(batch), batch.policy_weights())
