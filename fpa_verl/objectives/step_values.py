"""SVPO's loss: preferences between steps, and a value head that ranks them (arXiv 2406.10858), as far as it is known.

    L = L_pref + c_sft L_sft + c_mse L_mse + c_rank L_rank

Step-level DPO is `dpo` on pairs whose prompt is the common prefix and whose response is the step: the response mask
covers the step's own tokens and no other, and nothing else is needed. With the likelihood term it is `rpo`. `svpo` has
what comes on top, the value head's terms, and the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from fpa_verl.bounds import bounded, one_of
from fpa_verl.objectives.dpo import DPO
from fpa_verl.objectives.objective import Needs, Objective
from fpa_verl.objectives.step_ends import StepEnds
from fpa_verl.objectives.trajectories import Trajectories
from fpa_verl.roles import PAIR


@dataclass(frozen=True)
class Terms:
    """The terms of every pair, each (pairs,), and what they come to; means over pairs are the loss."""

    preference: torch.Tensor
    likelihood: torch.Tensor
    regression: torch.Tensor
    ranking: torch.Tensor
    total: torch.Tensor


@dataclass(frozen=True)
class StepValuePreference(Objective):
    """The terms of SVPO and their weights. A value of 0 leaves a term out.

        preference  -log sigmoid(m),  m = beta (log-ratio(w|s) - log-ratio(l|s))
        likelihood  -(1/|w|) log pi(w|s)
        regression  (V - Q)^2, its mean over the scored step ends of the global batch
        ranking     hinge      max(0, margin - (V(s_w) - V(s_l)))
                    logistic   -log sigmoid((V(s_w) - V(s_l)) / scale)

    The weights and the form of the ranking term are not known from the paper: all defaults are ours, but for c_mse, 0.1
    in AlphaMath's table. V is a tanh, and a difference of two is below 2: the hinge stops at its margin, the logistic
    form never does, and pushes V to the ends against the regression.

    Attributes:
        beta: strength of the bond to the reference.
        sft_weight, mse_weight, rank_weight: c_sft, c_mse, c_rank.
        rank: form of the ranking term.
        margin: gamma of the hinge.
        scale: tau of the logistic form.
        dropout: of the head's input, in training; AlphaMath's.
        value_lr: learning rate of the head; None: a tenth of one over the hidden size.
    """

    name = "svpo"
    roles = PAIR
    beta: float = bounded(0.1, above=0)
    sft_weight: float = bounded(0.1, at_least=0)
    mse_weight: float = bounded(0.1, at_least=0)
    rank_weight: float = bounded(0.1, at_least=0)
    rank: str = one_of("hinge", "logistic")
    margin: float = bounded(0.5, above=0, below=2)
    scale: float = bounded(1.0, above=0)
    dropout: float = bounded(0.1, at_least=0, at_most=0.9)
    value_lr: float | None = bounded(None, above=0)

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.REFERENCE, Needs.STEP_VALUES})

    def losses(self, batch: Trajectories) -> torch.Tensor:
        assert batch.step_ends is not None
        return self.terms(batch, batch.step_ends).total

    def metrics(self, batch: Trajectories) -> Mapping[str, torch.Tensor]:
        """The terms; and of V the mean absolute error over step ends, and whether it has the pair in its order."""
        assert batch.step_ends is not None
        ends, terms = batch.step_ends, self.terms(batch, batch.step_ends)
        chosen, rejected = self.by_role(ends.own())
        return {
            "preference": terms.preference,
            "likelihood": terms.likelihood,
            "value_regression": terms.regression,
            "value_ranking": terms.ranking,
            "value_error": self._mean_over_ends(ends.errors().abs().sum(-1), ends),
            "values_in_order": (chosen > rejected).to(chosen.dtype),
        }

    def _mean_over_ends(self, sums: torch.Tensor, ends: StepEnds) -> torch.Tensor:
        """Sums over the step ends of each row, (B,), by pair, so that the mean over pairs is that over step ends."""
        pairs = torch.stack(self.by_role(sums)).sum(0)
        return pairs / (ends.mask.sum().clamp(min=1) / len(pairs) if ends.per_pair is None else ends.per_pair)

    def terms(self, batch: Trajectories, ends: StepEnds) -> Terms:
        """All terms of a batch of pairs.

        Args:
            batch: pairs, the responses steps; with the reference's log-probs.
            ends: of the same rows.

        Raises:
            ValueError: the rows are no pairs, or the reference is missing.
        """
        preference = DPO(beta=self.beta)(batch)
        likelihood = -self.by_role(batch.mean_log_prob())[0]
        regression = self._mean_over_ends(ends.squared_errors(), ends)
        chosen_ends, rejected_ends = self.by_role(ends.mask.any(-1))
        ranking = self.ranking(*self.by_role(ends.own()))
        ranking = torch.where(chosen_ends & rejected_ends, ranking, ranking.new_zeros(()))
        weighted = ((self.sft_weight, likelihood), (self.mse_weight, regression), (self.rank_weight, ranking))
        total = preference + sum(weight * term for weight, term in weighted if weight)
        return Terms(preference, likelihood, regression, ranking, total)

    def ranking(self, chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        """The ranking term of values of preferred and other steps, both (pairs,)."""
        gap = chosen - rejected
        return (self.margin - gap).clamp(min=0) if self.rank == "hinge" else -logsigmoid(gap / self.scale)
