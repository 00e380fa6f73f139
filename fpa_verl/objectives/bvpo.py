"""BVPO: a preference loss on traces, mixed with the same loss on empty traces (arXiv 2510.05095)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from fpa_verl.bounds import number_or, one_of
from fpa_verl.objectives.objective import AUTO, OBJECTIVES, Needs, Objective
from fpa_verl.objectives.trajectories import Trajectories
from fpa_verl.roles import PAIR_OF_EACH_MODE

# What the closed form of alpha is known for: a loss of the log-ratios alone, which a marginal one can stand for.
OF_LOG_RATIOS = ("dpo", "dpo_fpa")


@dataclass(frozen=True)
class BVPO(Objective):
    """A pair sampled thinking, of which trace and answer are scored, mixed with one sampled with an empty trace.

        loss = alpha l(y+, y-; thinking) + (1 - alpha) l(y+, y-; empty)

    Over a batch of such items each loss is averaged over its own pairs before it is weighted, and the gradient is
    alpha g_t + (1 - alpha) g_e. On traces alone, alpha = 1, the gradient is noisy, for traces are long and random; on
    empty ones, alpha = 0, it is biased, for the model is to think. The empty block itself is part of the prompt: it is
    the same on both sides and would cancel.

    Attributes:
        alpha: weight of the trace-based loss; "auto" estimates the one of the least mean squared error (`mixing`).
        pairwise: the loss of a pair, an objective on pairs by its name.
        of_pair: hyper-parameters of that.

    Where the paper is silent:
        1. Both pairs of an item are of different problems, as a draw has it: `items_of`.
        2. Any other loss than DPO for pairwise is a choice of ours; the paper calls its scheme independent of the loss.
        3. "auto" is ours: the paper has the closed form, and sets alpha to 0.5.
    """

    name = "bvpo"
    roles = PAIR_OF_EACH_MODE
    alpha: float | str = number_or(AUTO, 0.5, at_least=0, at_most=1)
    pairwise: str = one_of("dpo", "dpo_fpa", "rpo", "rpo_fpa", "simper", "simper_fpa")
    of_pair: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha == AUTO and self.pairwise not in OF_LOG_RATIOS:
            raise ValueError(f"alpha={AUTO}: {self.name} estimates it for pairwise={' or '.join(OF_LOG_RATIOS)} alone")
        # Building it finds what it does not take.
        _ = self.pair_loss

    @cached_property
    def pair_loss(self) -> Objective:
        """The loss of a pair."""
        kind = OBJECTIVES[self.pairwise]
        if not isinstance(self.of_pair, Mapping):
            raise ValueError(f"of_pair={self.of_pair}: {self.name} needs names and values, as {{beta: 0.1}}")
        try:
            return kind(**self.of_pair)
        except TypeError as error:
            raise ValueError(f"of_pair={dict(self.of_pair)}: {self.pairwise} does not take that") from error
        except ValueError as error:
            raise ValueError(f"of_pair.{error}") from error

    @property
    def needs(self) -> frozenset[Needs]:
        return self.pair_loss.needs | ({Needs.MIXING_WEIGHT} if self.alpha == AUTO else set())

    @property
    def extrapolation(self) -> float | None:
        return self.pair_loss.extrapolation

    def losses(self, batch: Trajectories) -> torch.Tensor:
        alpha = batch.mixing_weight if self.alpha == AUTO else float(self.alpha)
        assert alpha is not None
        items = torch.arange(len(batch.rewards), device=batch.rewards.device).view(-1, self.rows_per_item)
        # A weight of nothing leaves the loss out, and what it may be instead of a number.
        mix = torch.zeros(len(items), device=batch.log_probs.device, dtype=batch.log_probs.dtype)
        for weight, rows in ((alpha, items[:, :2]), (1 - alpha, items[:, 2:])):
            if weight:
                mix = mix + weight * self.pair_loss.losses(batch.of_rows(rows.reshape(-1)))
        return mix
