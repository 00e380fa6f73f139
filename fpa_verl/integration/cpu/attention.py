"""Attention over packed sequences on a CPU, so that verl removes padding there as flash attention lets it on a GPU.

`recipes/hardware/cpu.yaml` asks for it by name, as transformers' own are asked for. Sequences that are
padded after all get transformers' `sdpa`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from wrapt import when_imported

from fpa_verl.errors import IntegrationError

NAME = "packed_sdpa"
# What an attention may be asked for that this one does not know.
UNKNOWN = ("softcap", "s_aux")


def register_when_needed() -> None:
    """With transformers' models, which a process may never import."""
    when_imported("transformers.modeling_utils")(_register)


def _register(_: ModuleType) -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    def mask(attention_mask: torch.Tensor | None = None, **sizes: Any) -> torch.Tensor | None:
        # Packed sequences come without a mask, and need none as large as their square.
        return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **sizes)

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
        IntegrationError: the model's attention is of a kind that needs a mask.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_mask is not None or position_ids is None or len(query) > 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    lengths = sequence_lengths(position_ids[0])
    if any(options.get(name) is not None for name in UNKNOWN) or max(lengths) > (sliding_window or max(lengths)):
        raise IntegrationError(
            f"attn_implementation={NAME} has causal attention to whole sequences alone, and this model asks for more: "
            "set actor_rollout_ref.model.override_config.attn_implementation=eager and "
            "actor_rollout_ref.model.use_remove_padding=false"
        )
    queries, keys, values = (heads.split(lengths, dim=2) for heads in (query, key, value))
    attended = [
        sdpa_attention_forward(module, q, k, v, None, **options)[0]
        for q, k, v in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(attended, dim=1), None


def sequence_lengths(positions: torch.Tensor) -> list[int]:
    """Of sequences packed one after another, from the (N,) positions of their tokens."""
    starts = (positions == 0).nonzero().squeeze(1)
    return torch.diff(starts, append=starts.new_tensor([len(positions)])).tolist()
