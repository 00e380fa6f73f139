"""DPO on answers whose traces are summed out with K samples of them: a baseline to BVPO (arXiv 2510.05095)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from fpa_verl.objectives.dpo import DPO
from fpa_verl.objectives.objective import hyper_parameter
from fpa_verl.objectives.trajectories import Trajectories
from fpa_verl.roles import Roles, of_traces


def marginal_log_ratio(log_ratios: torch.Tensor) -> torch.Tensor:
    """Log-ratio of policy to reference of an answer, from those of K traces with it, (..., K) -> (...).

        log pi_theta(y|x) / pi_ref(y|x)  ~  log( (1/K) sum_k R_k ),     R_k = pi_theta(r_k, y|x) / pi_ref(r_k, y|x)

    Over traces of the reference's that led to this answer the mean of R is that ratio exactly; its logarithm is too
    low, by what falls with 1/K. The gradient is that of the log R_k, weighted by R_k / sum_j R_j.
    """
    return log_ratios.logsumexp(-1) - math.log(log_ratios.shape[-1])


@dataclass(frozen=True)
class KTraceDPO(DPO):
    """DPO of answers, each with K traces that lead to it.

        loss(y_w, y_l) = -log sigmoid( beta (log mean_k R(r_k, y_w) - log mean_k R(r_k, y_l)) )

    R is the ratio of policy to reference of a trace and its answer together. With more traces the loss tends to DPO on
    pi(y|x) = sum_r pi(r, y|x); a mean of K losses of DPO keeps the bias of one. An item is 2K adjacent rows: the traces
    of the chosen answer, then those of the rejected one. The paper does not have it.

    Attributes:
        traces: K, of each answer. 1 is DPO.
    """

    name = "bvpo_k_trace"
    traces: int = hyper_parameter(2, at_least=1, whole=True)

    @property
    def roles(self) -> Roles:  # type: ignore[override]
        return of_traces(self.traces)

    def losses(self, batch: Trajectories) -> torch.Tensor:
        chosen, rejected = marginal_log_ratio(batch.log_ratio().view(-1, 2, self.traces)).unbind(-1)
        return -logsigmoid(self.strength * (chosen - rejected))
