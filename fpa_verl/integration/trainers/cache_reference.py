"""`recipe=cache_reference`: one pass of the base model over a rollout dataset, kept for later runs."""

from __future__ import annotations

from collections.abc import Iterator

import transfer_queue as tq
from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.trainer_base import register_trainer

from fpa_verl.files import hold
from fpa_verl.integration.config.identity import device_description
from fpa_verl.integration.config.typed_command import command_started_at
from fpa_verl.integration.servers.transfer import PARTITION, put_trajectories
from fpa_verl.integration.trainers.offline_loop import OfflineLoop
from fpa_verl.integration.workers.actor import CACHE_REQUEST, CacheRequest
from fpa_verl.rollouts import RolloutDataset, reference_cache
from fpa_verl.rollouts.reference_cache import is_readable, part_name
from fpa_verl.runs import ledger as phases
from fpa_verl.runs.ledger import Ledger
from fpa_verl.runs.progress import Tally


@register_trainer("cache_reference")
class ReferenceCacher(OfflineLoop):
    """Writes what a cache keeps of the base model, with the engine that trains and before any update.

    All trajectories of mixed groups are covered, whatever selection of them later runs train on.
    A cache that was interrupted goes on with the first batch that is not whole.
    """

    def work(self, agent_loop_manager: AgentLoopManager) -> None:
        self.global_steps = 0
        self.dataset = RolloutDataset.of_all_modes(self.config.rollouts)
        self.rows = [row for item in self.dataset.items for row in item]
        self.folder, self.key = self.facts.cache_folder, self.facts.cache_key
        self._lock = hold(self.folder)
        reference_cache.begin(
            self.folder, self.key, batch=self.config.data.train_batch_size, workers=self.facts.workers
        )
        ledger = Ledger(self.folder, started_at=command_started_at(), devices=self.facts.devices)
        ledger.started()
        batches = list(self._batches())
        missing = [number for number in range(len(batches)) if not self._is_whole(number)]
        done = len(batches) - len(missing)
        tally = Tally(self.folder, "caching", "batches", total=len(batches), done=done)
        for number in missing:
            with ledger.phase(phases.REFERENCE):
                self._cache(number, batches[number])
            ledger.write("step", number)
            done += 1
            tally.see(done)
        tally.end(done)
        ledger.write("end", len(batches))
        reference_cache.finish(
            self.folder, self.key, ledger.cost(device_description(self.config.trainer.device)), rows=self.rows
        )

    def _batches(self) -> Iterator[list[int]]:
        """Rows of like length together, so that the workers of a batch have like work."""
        lengths = self.dataset.lengths()
        rows = sorted(self.rows, key=lambda row: (lengths[row], row))
        size = self.config.data.train_batch_size
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def _is_whole(self, number: int) -> bool:
        return all(is_readable(self.folder / part_name(number, rank)) for rank in range(self.facts.workers))

    def _cache(self, number: int, rows: list[int]) -> None:
        # Every worker gets as many rows; what that takes is filled up with rows that are there twice.
        fill = -len(rows) % self.facts.workers
        filled = [*rows, *([rows[-1]] * fill)]
        keys = [f"cache{number}-{place}_0_0" for place in range(len(filled))]
        batch = put_trajectories(keys, [self.dataset.row(row) for row in filled], step=0)
        batch.extra_info[CACHE_REQUEST] = CacheRequest(
            str(self.folder), number, self.key.source, self.key.k, self.key.samples
        )
        try:
            self.actor_rollout_wg.cache_reference(batch)
        finally:
            tq.kv_clear(keys=keys, partition_id=PARTITION)
