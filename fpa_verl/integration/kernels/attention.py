"""Attention over packed sequences by torch's own kernels, a sequence at a time: what flash-attn does for verl.

transformers' own `sdpa` takes packed sequences as well, under a mask as large as the square of all their
tokens. `recipes/hardware/cpu.yaml` asks for this one by name, and so may a GPU without flash-attn; whatever is not
packed it leaves to `sdpa`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from fpa_verl.errors import IntegrationError

NAME = "packed_sdpa"
# What an attention may be asked for that this one does not know.
UNKNOWN = ("softcap", "s_aux")
# Every layer asks, and on a GPU each reading would wait for the device.
_LENGTHS = WeakTensorKeyDictionary()


def register() -> None:
    """With transformers, by name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    def mask(
        batch_size: int, q_length: int, kv_length: int, attention_mask: torch.Tensor | None = None, **options: Any
    ) -> torch.Tensor | None:
        # As verl packs: one row, no mask, no cache.
        if batch_size == 1 and q_length == kv_length and attention_mask is None:
            return None
        return sdpa_mask(batch_size, q_length, kv_length, attention_mask=attention_mask, **options)

    AttentionInterface.register(NAME, packed_sdpa)
    AttentionMaskInterface.register(NAME, mask)


def packed_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    position_ids: torch.Tensor | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each sequence of (1, heads, N, head_dim) to itself; (1, N, heads, head_dim).

    A sequence begins wherever the (1, N) `position_ids` do.

    Raises:
        IntegrationError: the model does not say where sequences begin, or its attention needs a mask.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_mask is not None or len(query) > 1 or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    lengths = sequence_lengths(position_ids)
    reaches_all = max(lengths, default=math.inf) <= (sliding_window or query.shape[2])
    if not reaches_all or any(options.get(name) is not None for name in UNKNOWN):
        raise IntegrationError(
            f"attn_implementation={NAME} has causal attention to whole sequences alone, which is not that of "
            f"{type(module).__name__}: set actor_rollout_ref.model.override_config.attn_implementation=sdpa"
        )
    queries, keys, values = (heads.split(lengths, dim=2) for heads in (query, key, value))
    attended = [
        sdpa_attention_forward(module, q, k, v, None, **options)[0]
        for q, k, v in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(attended, dim=1), None


def sequence_lengths(position_ids: torch.Tensor | None) -> list[int]:
    """Lengths of packed sequences, from the (1, N) positions of their tokens; none where those do not say."""
    if position_ids is None or position_ids.dim() != 2:
        return []
    if position_ids not in _LENGTHS:
        _LENGTHS[position_ids] = _lengths(position_ids)
    return _LENGTHS[position_ids]


def _lengths(position_ids: torch.Tensor) -> list[int]:
    if position_ids[0, 0] != 0:
        return []
    starts = (position_ids[0] == 0).nonzero().squeeze(1)
    return torch.diff(starts, append=starts.new_tensor([position_ids.shape[1]])).tolist()
