"""SimPER, and SimPER with the future policy (arXiv 2509.19893, A.1, Eq. 9, and 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.objectives.fpa import FPA
from fpa_verl.objectives.objective import Objective
from fpa_verl.objectives.trajectories import Trajectories
from fpa_verl.roles import PAIR


@dataclass(frozen=True)
class SimPER(Objective):
    """Length-normalised probability of the rejected trajectory less that of the chosen one (Eq. 9).

        loss(y_w, y_l) = -pi_theta(y_w|x)^(1/|y_w|) + pi_theta(y_l|x)^(1/|y_l|)

    Its gradient is that of Off-RL summed over the two (Proposition A.1).
    """

    name = "simper"
    roles = PAIR

    def losses(self, batch: Trajectories) -> torch.Tensor:
        chosen, rejected = self.by_role(batch.mean_log_prob().exp())
        return rejected - chosen


@dataclass(frozen=True)
class SimPERFPA(FPA):
    """SimPER's gradient, with the future policy's weights in place of the policy's own (Eq. 3 on pairs)."""

    name = "simper_fpa"
    roles = PAIR

    def losses(self, batch: Trajectories) -> torch.Tensor:
        chosen, rejected = self.by_role(super().losses(batch))
        return chosen + rejected
