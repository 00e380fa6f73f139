"""`trainer_mode=metered_sync`: verl's synchronous trainer (GRPO and the like), written down."""

from __future__ import annotations

from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from fpa_verl.integration.trainers.scorer_failures import ScorerFailureRule
from fpa_verl.integration.trainers.snapshots import SnapshotKeepingTrainer


@register_trainer("metered_sync")
class MeteredSyncTrainer(SnapshotKeepingTrainer, ScorerFailureRule, PPOTrainerSync):
    """verl's `sync` trainer with run record and ledger, and a rule for failures of the scorer."""
