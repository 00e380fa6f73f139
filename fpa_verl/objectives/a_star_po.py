"""A*-PO, its second stage on the stored trajectories (arXiv 2509.19893, B.2; arXiv 2505.20686)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fpa_verl.bounds import one_of
from fpa_verl.objectives.objective import Needs, Objective, hyper_parameter
from fpa_verl.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class AStarPO(Objective):
    """Least squares of the log-ratio on the optimal advantage.

        V*(x)   = beta1 log( mean over the group of exp(r / beta1) )
        loss(y) = ( beta2 (log pi_theta(y|x) - log pi_ref(y|x)) - (r(y) - V*(x)) )^2

    with r of a right trajectory and of any other as `reward` says.

    Attributes:
        beta1: temperature of the optimal value.
        beta2: strength of the bond to the reference.
        reward: "signed", +1 and -1, the R that the paper trains on; or "binary", 1 and 0, as in A*-PO's own
            paper (arXiv 2505.20686). With beta1 = 0.5 and half of a group right, r - V* of a right one is
            0.34 or 0.28, of a wrong one -1.66 or -0.72.

    Where the paper is silent:
        1. The group is all of the problem's scored trajectories, also those that the run leaves out.
        2. The second stage is on-policy in the original; here it uses the stored trajectories.
    """

    name = "a_star_po"
    beta1: float = hyper_parameter(0.5, above=0)
    beta2: float = hyper_parameter(1e-3, above=0)
    reward: str = one_of("signed", "binary")

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.REFERENCE, Needs.PASS_RATES})

    @property
    def _wrong(self) -> float:
        """R of a wrong trajectory; a right one has 1."""
        return -1.0 if self.reward == "signed" else 0.0

    def optimal_values(self, pass_rates: torch.Tensor) -> torch.Tensor:
        """V* of a group of which the share `pass_rates` is right: r takes but two values.

        With p the share and R_w a wrong one's R:  1 + beta1 log( p + (1 - p) exp((R_w - 1) / beta1) ), which is exact
        for any beta1.
        """
        rates = pass_rates.double()
        tail = torch.log1p(-rates) - (1 - self._wrong) / self.beta1
        values = 1 + self.beta1 * torch.logaddexp(rates.log(), tail)
        return torch.where(rates > 0, values, self._wrong).to(pass_rates.dtype)

    def optimal_advantages(self, rewards: torch.Tensor, pass_rates: torch.Tensor) -> torch.Tensor:
        """R - V*, from R and the pass rate of the group, each (B,)."""
        return torch.where(rewards > 0, 1.0, self._wrong).to(rewards.dtype) - self.optimal_values(pass_rates)

    def losses(self, batch: Trajectories) -> torch.Tensor:
        assert batch.pass_rates is not None
        advantages = self.optimal_advantages(batch.rewards, batch.pass_rates)
        return (self.beta2 * batch.log_ratio() - advantages).square()
