"""RPO, and RPO with the future policy (arXiv 2509.19893, B.2 and 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.objectives.dpo import DPO, DPOFPA
from fpa_verl.objectives.objective import hyper_parameter
from fpa_verl.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class RPO(DPO):
    """DPO and, beside it, maximum likelihood of the chosen trajectory.

        loss(y_w, y_l) = DPO(y_w, y_l) - alpha (1/|y_w|) log pi_theta(y_w|x)

    Attributes:
        alpha: weight of the likelihood term.
    """

    name = "rpo"
    alpha: float = hyper_parameter(1.0, at_least=0)

    def losses(self, batch: Trajectories) -> torch.Tensor:
        chosen, _ = self.by_role(batch.mean_log_prob())
        return super().losses(batch) - self.alpha * chosen


@dataclass(frozen=True)
class RPOFPA(DPOFPA, RPO):
    """RPO with the future policy in its DPO term (Eq. 8); the likelihood term is not touched."""

    name = "rpo_fpa"
