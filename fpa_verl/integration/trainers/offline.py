"""What an offline run leaves out of verl's synchronous loop."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

from transfer_queue import KVBatchMeta

from fpa_verl.integration.config.settings import validates
from fpa_verl.integration.safety.divergence import RIGHT_WEIGHT, CollapseRule, CollapseWatch
from fpa_verl.integration.trainers.base import Synchronous
from fpa_verl.integration.trainers.pairs import balance_pairs
from fpa_verl.integration.workers.dynamics import trajectory_means
from fpa_verl.runs.metrics import read_metrics

logger = logging.getLogger(__name__)

# Standard error of log w, mean over trajectories: beyond it one of a hundred is off by 1e-3.
TOO_COARSE = 4e-4


class OfflineHooks(Synchronous):
    """What an offline run leaves out of verl's synchronous loop.

    A rollout engine exists only where the run validates, and gets weights only right before that.
    """

    def __init__(self, config: Any) -> None:
        self._warned = False
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
        balance_pairs(batch, self.data_parallel_size)
        return batch

    @cached_property
    def collapse_watch(self) -> CollapseWatch:
        earlier = read_metrics(Path(self.config.run_dir)).get(RIGHT_WEIGHT, {})
        before = {step: weight for step, weight in earlier.items() if step < self.global_steps}
        return CollapseWatch(CollapseRule(**self.config.collapse), before)

    @cached_property
    def data_parallel_size(self) -> int:
        return max(self.actor_rollout_wg._query_dispatch_info("actor")) + 1

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """No objective here compares with an old policy."""
        return batch

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        # The update holds forward, backward and optimizer.
        metrics["perf/share_outside_update"] = 1 - timing_raw["update_actor"] / timing_raw["step"]
        super()._compute_metrics(batch, metrics, timing_raw, global_steps=global_steps, epoch=epoch)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._update_actor(batch, metrics)
        metrics.update(trajectory_means(metrics))
        if warning := self.collapse_watch.see(self.global_steps, metrics):
            logger.warning(warning)
        self._warn_where_the_cache_is_too_coarse(metrics)
        return batch

    def _warn_where_the_cache_is_too_coarse(self, metrics: dict) -> None:
        error = metrics.get("actor/cache_error", 0.0)
        if error <= TOO_COARSE or self._warned:
            return
        self._warned = True
        logger.warning(
            "step %d: the policy has moved so far that the reference cache is too coarse for it (actor/cache_error, of "
            "log w: %.1e, above %.0e). Train with reference.source=hidden or forward, or make the cache with more "
            "reference.samples than %d",
            self.global_steps,
            error,
            TOO_COARSE,
            self.config.reference.samples,
        )
