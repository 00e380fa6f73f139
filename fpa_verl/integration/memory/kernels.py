"""In the place of kernels that need a GPU: their outputs, what they keep for the backward pass, and what that takes.

As flash-attn 2.8 has them: `flash_api.cpp` (mha_varlen_bwd) and `ops/triton/cross_entropy.py`.
"""

from __future__ import annotations

from typing import Any

import torch

NAME = "attention_of_shapes"
# What flash attention rounds sequences up to in its float32 sum of the queries' gradient.
ROWS = 128


class _Attention(torch.autograd.Function):
    """(N, heads, head_dim) queries, and keys and values of as many heads or fewer."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, sequences: int) -> torch.Tensor:
        attended = torch.empty_like(query)
        normaliser = query.new_empty(query.shape[:2], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, attended, normaliser)
        ctx.sequences = sequences
        return attended

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, _, _ = ctx.saved_tensors
        tokens, heads, width = query.shape
        padded = tokens + ROWS * ctx.sequences
        gradients = tuple(torch.empty_like(one) for one in (query, key, value))
        taken = [query.new_empty(padded, heads, size, dtype=torch.float32) for size in (width, 1)]
        if key.shape[1] != heads:
            # Keys and values that several queries share have a gradient of each, which are summed then.
            taken += [query.new_empty(tokens, heads, width) for _ in range(2)]
        return (*gradients, None)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    position_ids: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls an attention, (1, heads, N, head_dim); (1, N, heads, head_dim)."""
    sequences = 1 if position_ids is None else int((position_ids == 0).sum())
    packed = (one.transpose(1, 2).squeeze(0) for one in (query, key, value))
    return _Attention.apply(*packed, sequences).unsqueeze(0), None


def scaled_dot_product_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: Any) -> torch.Tensor:
    """As torch's own is called on one sequence, (1, heads, n, head_dim), which takes what flash-attn does on a GPU."""
    packed = (one.transpose(1, 2).squeeze(0) for one in (query, key, value))
    return _Attention.apply(*packed, 1).unsqueeze(0).transpose(1, 2)


def register() -> None:
    """Make the attention known to transformers, under `NAME`, without a mask."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import flash_attention_mask

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, flash_attention_mask)


class _CrossEntropy(torch.autograd.Function):
    """(N, V) logits, (N,) labels."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, in_place: bool) -> torch.Tensor:
        losses, normaliser = (logits.new_empty(logits.shape[0], dtype=torch.float32) for _ in range(2))
        ctx.save_for_backward(logits, normaliser, labels)
        ctx.in_place = in_place
        return losses

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        logits = ctx.saved_tensors[0]
        return (logits if ctx.in_place else torch.empty_like(logits)), None, None


def cross_entropy_loss(
    logits: torch.Tensor, labels: torch.Tensor, *, inplace_backward: bool = False
) -> tuple[Any, ...]:
    """As verl calls flash-attn's, which overwrites the logits with their gradient where it may."""
    return (_CrossEntropy.apply(logits, labels, inplace_backward),)
