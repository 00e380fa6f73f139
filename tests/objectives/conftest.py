"""Shape letters: B sequences, T response tokens, V vocabulary."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fpa_verl.objectives import Trajectories, future_log_probs, trajectory_weights
from fpa_verl.objectives.step_ends import StepEnds
from fpa_verl.roles import PAIR, Roles

# Rows for items of one, two and four.
B, T, V = 12, 9, 13
LAM = 2.0


def log_probs_of(logits, labels):
    return logits.log_softmax(-1).gather(-1, labels[..., None]).squeeze(-1)


def future_of(logits, ref, labels, lam):
    flat = future_log_probs(logits.flatten(0, 1), ref.flatten(0, 1), labels.flatten(), lam)
    return flat.view(labels.shape)


class Example:
    """A float64 batch of six pairs, from logits, so that gradients can be taken at the logits."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.logits, self.ref = (torch.randn(B, T, V, generator=generator, dtype=torch.float64) for _ in range(2))
        self.logits.requires_grad_()
        self.labels = torch.randint(V, (B, T), generator=generator)
        self.mask = torch.arange(T) < torch.tensor([9, 1, 4, 7, 2, 5, 3, 8, 1, 6, 9, 2])[:, None]
        self.rewards = torch.tensor([1.0, -1], dtype=torch.float64).repeat(B // 2)
        self.values = torch.rand(B, T + 2, generator=generator, dtype=torch.float64) * 2 - 1
        self.targets = torch.rand(B, T + 2, generator=generator, dtype=torch.float64) * 2 - 1
        self.ends = torch.arange(T + 2) == self.mask.sum(-1, keepdim=True) + 1
        self.ends[:, 1] = True
        self.pass_rates = torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64).repeat_interleave(2).repeat(B // 6)

    def batch(self, roles: Roles = PAIR, *, at_reference: bool = False) -> Trajectories:
        """What an objective on items of these roles gets to see, whichever it is."""
        ref = self.logits.detach() if at_reference else self.ref
        log_probs, ref_log_probs = log_probs_of(self.logits, self.labels), log_probs_of(ref, self.labels)
        future = future_of(self.logits.detach(), ref, self.labels, LAM)
        batch = Trajectories(
            log_probs=log_probs,
            response_mask=self.mask,
            rewards=self.rewards,
            ref_log_probs=ref_log_probs,
            future_weights=trajectory_weights(future, self.mask),
            pass_rates=self.pass_rates,
            mean_length=self.mask.sum().item() / B,
            step_ends=StepEnds(self.values, self.targets, self.ends, self.ends.sum().item() / (B // 2)),
            roles=roles * (B // len(roles)),
        )
        return replace(batch, reference_point=batch.log_ratio().detach().mean())

    def gradient(self, loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, self.logits)[0]

    def gradient_kept(self, loss: torch.Tensor) -> torch.Tensor:
        """The same of a loss whose parts are asked again."""
        return torch.autograd.grad(loss, self.logits, retain_graph=True)[0]


@pytest.fixture
def example() -> Example:
    return Example()


def one_pair(right, wrong, ref_right=(0.0,), ref_wrong=(0.0,), **more) -> Trajectories:
    """A right and a wrong trajectory of one or two tokens, by their probabilities."""
    width = max(len(right), len(wrong))
    rows = [[math.log(p) for p in row] + [0.0] * (width - len(row)) for row in (right, wrong)]
    refs = [list(row) + [0.0] * (width - len(row)) for row in (ref_right, ref_wrong)]
    mask = [[i < len(row) for i in range(width)] for row in (right, wrong)]
    return Trajectories(
        log_probs=torch.tensor(rows, dtype=torch.float64, requires_grad=True),
        response_mask=torch.tensor(mask),
        rewards=torch.tensor([1.0, -1.0], dtype=torch.float64),
        ref_log_probs=torch.tensor(refs, dtype=torch.float64),
        roles=PAIR,
        **more,
    )
