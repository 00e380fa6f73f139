"""Log-probs of sampled tokens from (N, V) logits, some hundred rows at a time.

verl has flash-attn's kernel for it. Where that is missing, or switched off for determinism, it goes row by row in
Python, forward and backward, for which it offers no door: `replace_the_loop` puts this in the loop's place.
"""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from fpa_verl.errors import IntegrationError
from fpa_verl.objectives.logits import Rows, chunks, worked

# verl's loop, and how its own code comes to it.
LOOP, CALL = "logprobs_from_logits_v2", "logprobs_from_logits_v2(logits, labels)"


def replace_the_loop(module: ModuleType) -> None:
    """In `verl.utils.torch_functional`.

    Raises:
        IntegrationError: verl changed.
    """
    loop = getattr(module, LOOP, None)
    is_known = loop is not None and list(inspect.signature(loop).parameters) == ["logits", "labels"]
    if not is_known or CALL not in inspect.getsource(module.logprobs_from_logits):
        raise IntegrationError(
            f"verl.utils.torch_functional.{LOOP} is gone or is called in another way: "
            "fpa_verl/integration/kernels/log_probs.py must follow it"
        )
    setattr(module, LOOP, sampled_log_probs)


def sampled_log_probs(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Log softmax(logits) at the labels, computed in float32, or in float64 from such logits.

    Args:
        logits: (..., V).
        labels: (...), token ids.

    Returns:
        (...), in nats.
    """
    flat: torch.Tensor = _SampledLogProbs.apply(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
    return flat.view(labels.shape)


class _SampledLogProbs(torch.autograd.Function):
    """Keeps the logits that are there anyway and a number a row; of their size it makes the gradient alone."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log_probs, normalisers = [], []
        for part in chunks(logits, None):
            rows = worked(Rows(logits[part]))
            normalisers.append(rows.logsumexp(-1))
            log_probs.append(rows.gather(-1, labels[part, None]).squeeze(-1) - normalisers[-1])
        ctx.save_for_backward(logits, labels, torch.cat(normalisers))
        return torch.cat(log_probs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """G (1[v = label] - softmax(logits)), a row with gradient g."""
        logits, labels, normalisers = ctx.saved_tensors
        result = torch.empty_like(logits)
        for part in chunks(logits, None):
            g = gradient[part, None]
            rows = worked(Rows(logits[part])).sub(normalisers[part, None]).exp_().mul_(-g)
            # One label a row: no two of these meet.
            rows.scatter_add_(-1, labels[part, None], g.to(rows.dtype))
            result[part] = rows
        return result, None
