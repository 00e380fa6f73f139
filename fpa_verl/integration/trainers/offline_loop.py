"""verl's synchronous loop on stored rollouts: what is left out of it, and what is done otherwise."""

from __future__ import annotations

from typing import Any

from transfer_queue import KVBatchMeta

from fpa_verl.integration.config.settings import validates
from fpa_verl.integration.trainers.balancing import balance_items
from fpa_verl.integration.trainers.base import WatchedTrainer
from fpa_verl.integration.workers.actor import OfflineActorWorker


class OfflineLoop(WatchedTrainer):
    """No generation and no old-log-prob pass; items of several rows stay together.

    A rollout engine exists only where the run validates, and gets weights only right before that.
    """

    worker_class = OfflineActorWorker

    @property
    def starts_servers(self) -> bool:
        return validates(self.config)

    def on_sample_end(self) -> None:
        """The rollout engine sleeps already."""

    def on_step_end(self) -> None:
        """Weights stay where they are."""

    def on_validate_begin(self) -> None:
        self.checkpoint_manager.update_weights(self.global_steps)

    def on_validate_end(self) -> None:
        self.checkpoint_manager.sleep_replicas()

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict, **_: Any) -> KVBatchMeta:
        metrics |= balance_items(batch, len(self.facts.selection.roles), self.facts.workers)
        return batch

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """No objective here compares with an old policy."""
        return batch

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        # The update holds forward, backward and optimizer.
        metrics["perf/share_outside_update"] = 1 - timing_raw["update_actor"] / timing_raw["step"]
        super()._compute_metrics(batch, metrics, timing_raw, global_steps=global_steps, epoch=epoch)
