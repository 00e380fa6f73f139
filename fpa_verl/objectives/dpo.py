"""DPO, and DPO with the future policy (arXiv 2509.19893, B.2, Eq. 24, and 2.4, Eq. 8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from fpa_verl.objectives.objective import Needs, Objective, hyper_parameter
from fpa_verl.objectives.trajectories import Trajectories
from fpa_verl.roles import PAIR


@dataclass(frozen=True)
class DPO(Objective):
    """loss(y_w, y_l) = -log sigmoid( beta (log pi_theta/pi_ref (y_w) - log pi_theta/pi_ref (y_l)) ).

    Attributes:
        beta: strength of the bond to the reference.

    Where the paper is silent:
        1. Pairs are drawn from a group by `data.selection.pairs_per_group`.
    """

    name = "dpo"
    roles = PAIR
    beta: float = hyper_parameter(0.1, above=0)

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.REFERENCE})

    @property
    def strength(self) -> float:
        """What the difference of the two log-ratios is multiplied by."""
        return self.beta

    def margins(self, batch: Trajectories) -> torch.Tensor:
        """What the loss is the log-sigmoid of, (pairs,)."""
        chosen, rejected = self.by_role(batch.log_ratio())
        return self.strength * (chosen - rejected)

    def losses(self, batch: Trajectories) -> torch.Tensor:
        return -logsigmoid(self.margins(batch))


@dataclass(frozen=True)
class DPOFPA(DPO):
    """DPO with the future policy in place of the policy.

    At sequence level pi_hat is proportional to pi_theta^(1+lam) pi_ref^(-lam), its normaliser depends
    on the prompt alone and cancels within a pair, and the log-ratio grows by (1 + lam):

        loss(y_w, y_l) = -log sigmoid( (1 + lam) beta (log-ratio(y_w) - log-ratio(y_l)) )    (Eq. 8)

    which is DPO at (1 + lam) beta, value and gradient.

    Attributes:
        lam: extrapolation strength. 0 is DPO.
    """

    name = "dpo_fpa"
    lam: float = hyper_parameter(2.0, at_least=0)

    @property
    def strength(self) -> float:
        return (1 + self.lam) * self.beta
