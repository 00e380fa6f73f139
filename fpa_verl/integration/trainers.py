"""The trainers that recipes name by `trainer.v1.trainer_mode`. Each changes one thing of verl's.

metered_sync   verl's synchronous trainer (GRPO and the like), written down
offline        the same loop on stored rollouts: no generation, no old-log-prob pass
collect        generation and scoring alone: no training engine
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import PPOTrainer, register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions

import fpa_verl.integration.collect  # noqa: F401  registers its trainer
from fpa_verl.integration.actor import OfflineActorWorker
from fpa_verl.integration.best_model import KeepsBest
from fpa_verl.integration.dynamics import trajectory_means
from fpa_verl.integration.settings import validates


@register_trainer("metered_sync")
class MeteredSyncTrainer(KeepsBest, PPOTrainerSync):
    """verl's `sync` trainer with run record and ledger."""


class OfflineHooks(PPOTrainer):
    """What an offline run leaves out of verl's synchronous loop.

    A rollout engine exists only where the run validates, and gets weights only right before that.
    """

    def __init__(self, config: Any) -> None:
        self._enable_hybrid_replicas = validates(config)
        super().__init__(config)

    def on_sample_end(self) -> None:
        """The rollout engine sleeps already."""

    def on_step_end(self) -> None:
        """Weights stay where they are."""

    def on_validate_begin(self) -> None:
        self.checkpoint_manager.update_weights(self.global_steps)

    def on_validate_end(self) -> None:
        self.checkpoint_manager.sleep_replicas()

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict, **kwargs: Any) -> KVBatchMeta:
        if self.config.data.selection.unit != "pair":
            return super()._balance_batch(batch, metrics, **kwargs)
        balance_pairs(batch, self._data_parallel_size)
        return batch

    @cached_property
    def _data_parallel_size(self) -> int:
        return max(self.actor_rollout_wg._query_dispatch_info("actor")) + 1

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """No objective here compares with an old policy."""
        return batch

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._update_actor(batch, metrics)
        metrics.update(trajectory_means(metrics))
        return batch


def balance_pairs(batch: KVBatchMeta, workers: int) -> None:
    """Reorder a batch so that each worker's part has whole pairs and about the same work.

    A pair is what one training item put into the batch, under the keys ITEM_0_0 (the right
    trajectory) and ITEM_1_0 (the wrong one).
    """
    order = sorted(range(len(batch.keys)), key=lambda row: batch.keys[row])
    pairs = list(zip(order[0::2], order[1::2], strict=True))
    lengths = [sum(batch.tags[row]["seq_len"] for row in pair) for pair in pairs]
    work = calculate_workload(torch.tensor(lengths, dtype=torch.int64))
    parts = get_seqlen_balanced_partitions(work, k_partitions=workers, equal_size=True)
    batch.reorder([row for part in parts for pair in part for row in pairs[pair]])


@register_trainer("offline")
class OfflineTrainer(KeepsBest, OfflineHooks):
    """Training on a static rollout dataset with a registered policy loss."""

    worker_class = OfflineActorWorker
