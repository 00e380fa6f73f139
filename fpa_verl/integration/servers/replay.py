"""verl's replay buffer that ends a run where a process it waits for has died, and tells what has arrived.

`trainer.v1.sampler.custom_sampler` of the recipes. A custom sampler gets fewer arguments from verl than verl's own;
the recipes put what is missing into `sampler_kwargs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from fpa_verl.integration.safety.watchdog import Watchdog
from fpa_verl.integration.servers.client import Arrived, nobody


class WatchedReplayBuffer(ReplayBuffer):
    """verl's own, which polls for responses without end, asking the watchdog before every look.

    Args:
        sampler_kwargs: `poll_interval`, seconds between two looks; and what verl's own buffer gets of the
            configuration: `filter_groups`, `sync_refill_failed_groups`, `train_batch_size`, `gen_batch_size`.
        buffer: verl's other arguments.
    """

    # Set by the trainer once there is somebody to watch.
    watchdog: Watchdog | None = None
    _arrived: Arrived = staticmethod(nobody)

    def __init__(self, *, sampler_kwargs: DictConfig, **buffer: Any) -> None:
        filter_groups, refill = sampler_kwargs.filter_groups, bool(sampler_kwargs.sync_refill_failed_groups)
        metric = str(filter_groups.metric) if filter_groups and filter_groups.enable else None
        # As verl's trainer works them out.
        exact = metric is not None or refill
        super().__init__(
            sampler_kwargs=sampler_kwargs,
            poll_interval=sampler_kwargs.poll_interval,
            filter_groups_metric=metric,
            sync_refill_failed_groups=refill,
            train_batch_size=sampler_kwargs.train_batch_size,
            gen_batch_size=1 if exact else sampler_kwargs.gen_batch_size or sampler_kwargs.train_batch_size,
            max_inflight_gen_batches=filter_groups.max_inflight_gen_batches if metric else 1,
            **buffer,
        )

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        if self.watchdog is not None:
            self.watchdog.require_alive()
        # What verl holds of a partition are its outputs; prompts are kept apart.
        self._arrived(len({key.rsplit("_", 1)[0] for key in self.partitions[partition_id]}))
        return super()._wait_for_next_poll(partition_id, last_debug_time)

    @contextmanager
    def telling(self, arrived: Arrived) -> Iterator[None]:
        """Within the block, tell how many responses there are whenever verl has looked."""
        self._arrived = arrived
        try:
            yield
        finally:
            self._arrived = nobody
