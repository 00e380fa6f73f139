"""Gradients of single pairs by a model's last layer, projected to a few numbers, from a forward pass alone.

With logits z = W h / T, W the (V, d) output embeddings, the score of a token y is

    d log pi(y) / dW = (e_y - p) h^T / T,        p = softmax(z)

and a random direction of rank one, u v^T, sees (u_y - p.u) (h.v) / T of it. With u and v standard normal, the mean of
the products of what two gradients show in m directions is their inner product on average, which is all that moments
of gradients need. A tied W's other part, by the input embeddings, is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from fpa_verl.objectives.k_trace import marginal_log_ratio
from fpa_verl.objectives.logits import Logits, chunks, rows_of, work_dtype, worked


@dataclass(frozen=True)
class Directions:
    """m random directions of rank one.

    Attributes:
        outputs: the u of each, (V, m).
        inputs: the v of each, (d, m).
    """

    outputs: torch.Tensor
    inputs: torch.Tensor

    @classmethod
    def drawn(cls, vocabulary: int, hidden: int, number: int, seed: int = 0) -> Directions:
        """The same for the same seed, wherever they are drawn; float32, on the CPU."""
        generator = torch.Generator().manual_seed(seed)
        # Of the mean over directions each gradient has a share in the root.
        outputs = torch.randn(vocabulary, number, generator=generator) / math.sqrt(number)
        return cls(outputs, torch.randn(hidden, number, generator=generator))

    def to(self, device: torch.device, dtype: torch.dtype) -> Directions:
        return Directions(self.outputs.to(device, dtype), self.inputs.to(device, dtype))


@torch.no_grad()
def projected_scores(
    logits: Logits | torch.Tensor,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    lengths: list[int],
    directions: Directions,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Of every trajectory the gradient of its log-probability with respect to W, projected, (B, m).

    Args:
        logits: of its tokens, one trajectory after another, (M, V).
        hidden: last hidden states at the same positions, (M, d).
        labels: the tokens, (M,).
        lengths: tokens of each trajectory, B of them, together M.
        directions: what the gradients are projected on.
        temperature: what W h was divided by.
    """
    dtype = work_dtype(logits.dtype)
    directions = directions.to(logits.device, dtype)
    of_token = torch.empty(len(labels), directions.outputs.shape[1], dtype=dtype, device=logits.device)
    for part in chunks(logits, None):
        probabilities = torch.softmax(worked(rows_of(logits, part)), -1)
        outputs = directions.outputs[labels[part].long()] - probabilities @ directions.outputs
        of_token[part] = outputs * (hidden[part].to(dtype) @ directions.inputs) / temperature
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(logits.device)
    return of_token.new_zeros(len(lengths), of_token.shape[1]).index_add_(0, owner, of_token)


def dpo_gradients(log_ratios: torch.Tensor, scores: torch.Tensor, strength: float) -> torch.Tensor:
    """Gradients of DPO's loss of pairs, (n, m), of answers with one trace each.

    Args:
        log_ratios: log pi/ref of the chosen and the rejected one, (n, 2).
        scores: gradients of their log-probabilities, (n, 2, m).
        strength: what the difference of log-ratios is multiplied by, beta.
    """
    slope = -strength * torch.sigmoid(strength * (log_ratios[:, 1] - log_ratios[:, 0]))
    return slope[:, None] * (scores[:, 0] - scores[:, 1])


def k_trace_gradients(log_ratios: torch.Tensor, scores: torch.Tensor, strength: float) -> torch.Tensor:
    """The same of answers with K traces each, whose ratio is the mean over their traces: (n, 2, K), (n, 2, K, m).

    The gradient of log (1/K) sum_k R_k weights each trace's score by R_k / sum R. As K grows, this is the gradient of
    the marginal loss.
    """
    weights = torch.softmax(log_ratios, -1)
    return dpo_gradients(marginal_log_ratio(log_ratios), (weights[..., None] * scores).sum(-2), strength)


def marginal_gradients(log_ratios: torch.Tensor, scores: torch.Tensor, strength: float) -> torch.Tensor:
    """Estimates of the marginal loss's gradient from an even number K of traces, (n, 2, K), (n, 2, K, m) -> (n, m).

        2 g_K - (g_K/2 + g'_K/2) / 2

    with g_K from all traces and the others from either half. That of K traces is off by about c / K towards the
    gradient with one, which would then be taken to be less biased than it is; here c cancels.
    """
    halves = [
        k_trace_gradients(r, s, strength) for r, s in zip(log_ratios.chunk(2, -1), scores.chunk(2, -2), strict=True)
    ]
    return 2 * k_trace_gradients(log_ratios, scores, strength) - (halves[0] + halves[1]) / 2
