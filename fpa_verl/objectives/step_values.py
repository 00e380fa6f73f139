"""SVPO's loss: preferences between steps, and a value head that ranks them (arXiv 2406.10858), as far as it is known.

    L = L_pref + c_sft L_sft + c_mse L_mse + c_rank L_rank

Step-level DPO is `dpo` on pairs whose prompt is the common prefix and whose response is the step: the response mask
covers the step's own tokens and no other, and nothing else is needed. With the likelihood term it is `rpo`. Here is
what comes on top: the value head's terms, and the sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from fpa_verl.bounds import bounded, one_of, out_of_bounds
from fpa_verl.objectives.dpo import DPO
from fpa_verl.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class StepEnds:
    """What the value head says of the rows of a batch of pairs; L positions of a row, padded on either side.

    Attributes:
        values: V at every position, (B, L); the head's, with gradient.
        targets: Q of the step that ends there, (B, L); anything where none ends.
        mask: where a step ends that has a target, (B, L). The last of a row is the end of its own step.
        per_pair: scored step ends of the global batch over its pairs. None: those of this batch.
    """

    values: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor
    per_pair: float | None = None

    def squared_errors(self) -> torch.Tensor:
        """Sum of (V - Q)^2 over the step ends of each row, (B,)."""
        # where() before the square: padding may hold inf or NaN, whose gradient would be NaN even behind a mask.
        errors = torch.where(self.mask.bool(), self.values - self.targets, self.values.new_zeros(()))
        return errors.square().sum(-1)

    def own(self) -> torch.Tensor:
        """V at the end of each row's own step, (B,); 0 of a row without any."""
        places = torch.arange(self.mask.shape[-1], device=self.mask.device).expand_as(self.mask)
        last = torch.where(self.mask.bool(), places, -1).max(-1, keepdim=True).values
        found = self.values.gather(-1, last.clamp(min=0)).squeeze(-1)
        return torch.where(last.squeeze(-1) >= 0, found, found.new_zeros(()))


@dataclass(frozen=True)
class Terms:
    """The terms of every pair, each (pairs,), and what they come to; means over pairs are the loss."""

    preference: torch.Tensor
    likelihood: torch.Tensor
    regression: torch.Tensor
    ranking: torch.Tensor
    total: torch.Tensor


@dataclass(frozen=True)
class StepValuePreference:
    """The terms of SVPO and their weights. A value of 0 leaves a term out.

        preference  -log sigmoid(m),  m = beta (log-ratio(w|s) - log-ratio(l|s)); + e m for a share e of wrong labels
        likelihood  -(1/|w|) log pi(w|s)
        regression  (V - Q)^2, its mean over the scored step ends of the global batch
        ranking     hinge      max(0, margin - (V(s_w) - V(s_l)))
                    logistic   -log sigmoid((V(s_w) - V(s_l)) / scale)

    The weights and the form of the ranking term are not known from the paper: all defaults are ours, but for c_mse, 0.1
    in AlphaMath's table. V is a tanh, and a difference of two is 2 at most: the hinge stops at its margin, the logistic
    form never does, and pushes V to the ends against the regression.

    Attributes:
        beta: strength of the bond to the reference.
        sft_weight, mse_weight, rank_weight: c_sft, c_mse, c_rank.
        rank: form of the ranking term.
        margin: gamma of the hinge.
        scale: tau of the logistic form.

    Raises:
        ValueError: one of them is out of its bounds.
    """

    beta: float = bounded(0.1, above=0)
    sft_weight: float = bounded(0.1, at_least=0)
    mse_weight: float = bounded(0.1, at_least=0)
    rank_weight: float = bounded(0.1, at_least=0)
    rank: str = one_of("hinge", "logistic")
    margin: float = bounded(0.5, above=0, at_most=2)
    scale: float = bounded(1.0, above=0)

    def __post_init__(self) -> None:
        for name, value, bounds in out_of_bounds(self):
            raise ValueError(f"{name}={value}: the step-value loss needs {bounds}")

    def terms(self, batch: Trajectories, ends: StepEnds, wrong_labels: torch.Tensor | None = None) -> Terms:
        """All terms of a batch of pairs.

        Args:
            batch: pairs, the responses steps; with the reference's log-probs.
            ends: of the same rows.
            wrong_labels: share of the labels of each pair that are taken for wrong, (pairs,).

        Raises:
            ValueError: the rows are no pairs, or the reference is missing.
        """
        dpo = DPO(beta=self.beta)
        preference = dpo(batch)
        if wrong_labels is not None:
            # -log sigmoid(-m) is m more than -log sigmoid(m).
            preference = preference + wrong_labels * dpo.margins(batch)
        likelihood = -dpo.by_role(batch.mean_log_prob())[0]
        pairs = len(preference)
        per_pair = ends.mask.sum().clamp(min=1) / pairs if ends.per_pair is None else ends.per_pair
        regression = torch.stack(dpo.by_role(ends.squared_errors())).sum(0) / per_pair
        chosen_ends, rejected_ends = dpo.by_role(ends.mask.any(-1))
        ranking = self.ranking(*dpo.by_role(ends.own()))
        ranking = torch.where(chosen_ends & rejected_ends, ranking, ranking.new_zeros(()))
        weighted = ((self.sft_weight, likelihood), (self.mse_weight, regression), (self.rank_weight, ranking))
        total = preference + sum(weight * term for weight, term in weighted if weight)
        return Terms(preference, likelihood, regression, ranking, total)

    def ranking(self, chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        """The ranking term of values of preferred and other steps, both (pairs,)."""
        gap = chosen - rejected
        return (self.margin - gap).clamp(min=0) if self.rank == "hinge" else -logsigmoid(gap / self.scale)
