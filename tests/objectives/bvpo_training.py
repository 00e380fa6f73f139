"""Training on the toy with one prompt, many policies at a time: shape letters of `bvpo_toy`, and S policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid

from tests.objectives.bvpo_toy import EMPTY, D, Toy

# (S, D) parameters -> (S,) losses.
Loss = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Exact:
    """A loss with all its draws in it.

    Attributes:
        alpha: weight of the loss on traces of the reference's, the rest on empty ones; None: the marginal loss.
        wrong: share of the pairs whose label is the wrong way round.
    """

    toy: Toy
    alpha: float | None = None
    wrong: float = 0.0

    def __call__(self, added: torch.Tensor) -> torch.Tensor:
        if self.alpha is None:
            preferred, other = self.toy.answer_log_ratios(added).unbind(-1)
            return self._labelled(preferred - other)
        ratios = self.toy.log_ratios(added)
        of_pairs = self._labelled(ratios[:, :, None, 0] - ratios[:, None, :, 1])
        return self.alpha * (self.toy.drawn * of_pairs).sum((1, 2)) + (1 - self.alpha) * of_pairs[:, EMPTY, EMPTY]

    def _labelled(self, margins: torch.Tensor) -> torch.Tensor:
        scaled = self.toy.beta * margins
        return -(1 - self.wrong) * logsigmoid(scaled) - self.wrong * logsigmoid(-scaled)


class Sampled:
    """A loss on pairs drawn anew at each call, for every policy its own: so many log-ratios of pairs a step.

    Args:
        alpha: weight of the loss on traces; between 0 and 1 half of the pairs have empty ones.
        traces: K, so that `pairs` are made up of items of K each.
    """

    def __init__(self, toy: Toy, alpha: float, *, pairs: int, traces: int = 1, wrong: float = 0.0) -> None:
        self._toy, self._alpha, self._traces, self._wrong = toy, alpha, traces, wrong
        self._pairs = pairs if alpha in (0, 1) else pairs // 2
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self, added: torch.Tensor) -> torch.Tensor:
        ratios = self._toy.log_ratios(added)
        loss = ratios.new_zeros(len(added))
        if self._alpha:
            loss = loss + self._alpha * self._loss(self._drawn(ratios, 0) - self._drawn(ratios, 1))
        if self._alpha < 1:
            margins = ratios[:, EMPTY, 0] - ratios[:, EMPTY, 1]
            loss = loss + (1 - self._alpha) * self._loss(margins[:, None].expand(-1, self._pairs))
        return loss

    def _drawn(self, ratios: torch.Tensor, answer: int) -> torch.Tensor:
        """Log-ratios of an answer by K traces, (S, items)."""
        posterior = self._toy.posterior[0, :, answer].expand(len(ratios), -1)
        traces = torch.multinomial(posterior, self._pairs, replacement=True, generator=self._generator)
        return ratios[..., answer].gather(1, traces).unflatten(1, (-1, self._traces)).exp().mean(-1).log()

    def _loss(self, margins: torch.Tensor) -> torch.Tensor:
        draws = torch.rand(margins.shape, generator=self._generator, dtype=margins.dtype)
        return -logsigmoid(self._toy.beta * torch.where(draws < self._wrong, -margins, margins)).mean(-1)


def train(loss: Loss, watched: Loss, *, step: float, steps: int, policies: int = 1) -> torch.Tensor:
    """Gradient descent from the reference; the watched loss after every step, (steps, S)."""
    added = torch.zeros(policies, D, dtype=torch.float64)
    seen = []
    for _ in range(steps):
        leaf = added.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf).sum(), leaf)
        added = (leaf - step * gradient).detach()
        seen.append(watched(added))
    return torch.stack(seen)
