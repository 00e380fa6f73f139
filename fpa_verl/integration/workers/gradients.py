"""Norms of the gradients that right and that wrong trajectories give, apart: an occasional measurement, and no update.

A loss of trajectories depends on the model through their log-probs, and its gradient is a sum over trajectories,

    g = sum over y of (dL / d log pi(y)) grad log pi(y) = g_right + g_wrong

so that one side's is that of the loss with the log-probs of the other side detached. That holds for pairs as well.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from tensordict import TensorDict
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from verl.utils import tensordict_utils as tu
from verl.utils.fsdp_utils import fsdp2_clip_grad_norm_
from verl.workers.engine_workers import TrainingWorker


def gradient_norm(worker: TrainingWorker, loss: Any, data: TensorDict) -> float:
    """L2 norm of a loss's gradient over a batch, before clipping; one forward and one backward.

    Args:
        worker: verl's, whose engine holds the model; nothing of it is changed.
        loss: as the engine calls it.
        data: this worker's part of the batch, as for an update.
    """
    engine, config = worker.engine, worker.engine_config
    batch = data.clone(recurse=False)
    # What verl's worker adds to a batch before it trains on it.
    tu.assign_non_tensor(
        batch,
        use_remove_padding=worker.model_config.get("use_remove_padding", False),
        use_dynamic_bsz=config.use_dynamic_bsz,
        max_token_len_per_gpu=config.max_token_len_per_gpu,
        micro_batch_size_per_gpu=config.micro_batch_size_per_gpu,
        use_fused_kernels=config.use_fused_kernels,
    )
    # What is drawn, as for dropout, is not missing from what training draws.
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), engine.train_mode():
        engine.optimizer_zero_grad()
        engine.forward_backward_batch(batch, loss)
        norm = _norm(engine.module)
        engine.optimizer_zero_grad()
    return norm


def _norm(module: torch.nn.Module) -> float:
    """Over all workers. Clipping at infinity leaves gradients as they are, and knows how they are divided."""
    if isinstance(module, FullyShardedDataParallel):
        norm = module.clip_grad_norm_(math.inf)
    else:
        norm = fsdp2_clip_grad_norm_(module.parameters(), max_norm=math.inf)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
