"""The trainers that recipes name by `trainer.v1.trainer_mode`. Each changes one thing of verl's.

metered_sync   verl's synchronous trainer (GRPO and the like), written down
offline        the same loop on stored rollouts: no generation, no old-log-prob pass
collect        generation and scoring alone: no training engine
"""

from __future__ import annotations

from typing import Any

from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import PPOTrainer, register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

import fpa_verl.integration.collect  # noqa: F401  registers its trainer
from fpa_verl.integration.loss import TRAJECTORY_METRICS
from fpa_verl.integration.metering import Metered
from fpa_verl.integration.settings import validates


@register_trainer("metered_sync")
class MeteredSyncTrainer(Metered, PPOTrainerSync):
    """verl's `sync` trainer with run record and ledger."""


class OfflineHooks(PPOTrainer):
    """What an offline run leaves out of verl's synchronous loop.

    A rollout engine exists only where the run validates, and gets weights only right before that.
    """

    def __init__(self, config: Any) -> None:
        self._enable_hybrid_replicas = validates(config)
        super().__init__(config)

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        import ray

        from fpa_verl.integration.actor import OfflineActorWorker

        for role in self.role_worker_mapping:
            self.role_worker_mapping[role] = ray.remote(OfflineActorWorker)

    def on_sample_end(self) -> None:
        """The rollout engine sleeps already."""

    def on_step_end(self) -> None:
        """Weights stay where they are."""

    def on_validate_begin(self) -> None:
        self.checkpoint_manager.update_weights(self.global_steps)

    def on_validate_end(self) -> None:
        self.checkpoint_manager.sleep_replicas()

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """No objective here compares with an old policy."""
        return batch

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._update_actor(batch, metrics)
        metrics.update(_trajectory_means(metrics))
        return batch


def _trajectory_means(metrics: dict[str, Any]) -> dict[str, float]:
    """Take the sums of `trajectory_sums` out of `metrics` and return means over right and wrong."""
    means = {}
    for side in ("right", "wrong"):
        count = metrics.pop(f"actor/{side}/count")
        for name in TRAJECTORY_METRICS:
            total = metrics.pop(f"actor/{side}/{name}")
            if count:
                means[f"dynamics/{side}/{name}"] = total / count
    return means


@register_trainer("offline")
class OfflineTrainer(Metered, OfflineHooks):
    """Training on a static rollout dataset with a registered policy loss."""
