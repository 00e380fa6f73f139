"""The trainers that recipes name by `trainer.v1.trainer_mode`. Each changes one thing of verl's.

metered_sync      verl's synchronous trainer (GRPO and the like), written down
offline           the same loop on stored rollouts: no generation, no old-log-prob pass
collect           generation and scoring alone: no training engine
evaluate          the same for any problem sets, several answers to each problem
cache_reference   one forward pass of the base model over the dataset: no update, no rollout engine
"""

from __future__ import annotations

from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

# Imported for the trainers that they register.
import fpa_verl.integration.trainers.cache_reference
import fpa_verl.integration.trainers.collect
import fpa_verl.integration.trainers.evaluate  # noqa: F401
from fpa_verl.files import append_json_line
from fpa_verl.integration.trainers.best_model import KeepsBest
from fpa_verl.integration.trainers.offline import OfflineHooks
from fpa_verl.integration.trainers.scorer_failures import SetsUnscoredApart
from fpa_verl.integration.workers.actor import OfflineActorWorker
from fpa_verl.runs.names import BATCHES_FILE


@register_trainer("metered_sync")
class MeteredSyncTrainer(KeepsBest, SetsUnscoredApart, PPOTrainerSync):
    """verl's `sync` trainer with run record and ledger, and a rule for failures of the scorer."""


@register_trainer("offline")
class OfflineTrainer(KeepsBest, OfflineHooks):
    """Training on a static rollout dataset with a registered policy loss."""

    worker_class = OfflineActorWorker

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        if self.config.note_tokens:
            batch.extra_info.update(
                note_tokens_in=str(self.run_dir), attempt=self.ledger.attempt, step=self.global_steps
            )
        batch = super()._update_actor(batch, metrics)
        rows = [tag["row"] for tag in batch.tags if "row" in tag]
        append_json_line(
            self.run_dir / BATCHES_FILE, {"attempt": self.ledger.attempt, "step": self.global_steps, "rows": rows}
        )
        return batch
