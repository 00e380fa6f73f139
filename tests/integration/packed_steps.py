"""One process of a step in which several share every sequence (Ulysses), as test_packing.py starts them.

    RANK=0 WORLD_SIZE=2 ... python -m tests.integration.packed_steps MODEL DATASET CACHES

prints a JSON line for every source of the reference: the metrics of one FPA step. Logits are noted in CACHES/looks.

verl divides sequences around flash attention, which needs a GPU. Here the kernel alone is another, the CPU
platform's. The all-to-all before and after it, the slices, the padding and the gathering of outputs are verl's.
Torch 2.11's gloo sends one tensor to all, and no list of them, as NCCL does: there the list is sent as one.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from packaging.version import Version
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask
from verl.models.transformers import monkey_patch

from fpa_verl.integration.kernels.attention import packed_sdpa
from tests.integration.stepping import batch, drift, from_cache, note, update, worker

NAME = "packed_among_processes"
# Beside the caches, where the policy's logits are noted.
LOOKS = "looks"


def packed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    _query_length: int,
    *,
    module: torch.nn.Module,
    **options: Any,
) -> torch.Tensor:
    """(1, N, heads, head_dim) in the place of transformers' _flash_attention_forward."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return packed_sdpa(module, query, key, value, None, **options)[0]


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    position_ids: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls an attention, (1, heads, N, head_dim), to verl's around the kernel."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    attended = monkey_patch._ulysses_flash_attention_forward(
        query, key, value, attention_mask, query.shape[1], position_ids=position_ids, scaling=scaling, module=module
    )
    return attended, None


def all_to_all(
    received: list[torch.Tensor], sent: list[torch.Tensor], group: Any = None, async_op: bool = False
) -> None:
    """Tensors of one shape, in the place of torch's."""
    assert not async_op
    whole = torch.empty_like(torch.stack(sent))
    dist.all_to_all_single(whole, torch.stack(sent), group=group)
    for place, tensor in zip(received, whole, strict=True):
        place.copy_(tensor)


def main() -> None:
    base_model, dataset, caches = sys.argv[1:]
    if Version(torch.__version__) < Version("2.13"):
        dist.all_to_all = all_to_all
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, flash_attention_mask)
    monkey_patch._flash_attention_forward = packed_attention
    for source in ("forward", "hidden", "topk"):
        actor = worker(
            base_model,
            "fpa_offline",
            f"actor_rollout_ref.model.override_config.attn_implementation={NAME}",
            f"actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size={os.environ['WORLD_SIZE']}",
            *(() if source == "forward" else from_cache(source, f"{caches}/{source}")),
        )
        drift(actor)
        if source == "forward":
            note(actor, dataset, Path(caches) / LOOKS)
        found = update(actor, batch(dataset)[1])
        if found:
            print(json.dumps({"source": source, **found}), flush=True)


if __name__ == "__main__":
    main()
