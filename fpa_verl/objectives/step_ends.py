"""What an objective sees of a value head: V where steps of a solution end, and what it is to be there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


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

    def of_rows(self, rows: torch.Tensor) -> StepEnds:
        """Some rows by their places, (b,); what belongs to the global batch stays as it is."""
        return replace(self, values=self.values[rows], targets=self.targets[rows], mask=self.mask[rows])

    def errors(self) -> torch.Tensor:
        """V - Q at every step end, 0 elsewhere, (B, L)."""
        # where(), and before anything else: padding may hold inf or NaN, whose gradient would be NaN behind a mask.
        return torch.where(self.mask.bool(), self.values - self.targets, self.values.new_zeros(()))

    def squared_errors(self) -> torch.Tensor:
        """Sum of (V - Q)^2 over the step ends of each row, (B,)."""
        return self.errors().square().sum(-1)

    def own(self) -> torch.Tensor:
        """V at the end of each row's own step, (B,); 0 of a row without any."""
        places = torch.arange(self.mask.shape[-1], device=self.mask.device).expand_as(self.mask)
        last = torch.where(self.mask.bool(), places, -1).max(-1, keepdim=True).values
        found = self.values.gather(-1, last.clamp(min=0)).squeeze(-1)
        return torch.where(last.squeeze(-1) >= 0, found, found.new_zeros(()))
