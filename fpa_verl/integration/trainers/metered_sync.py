"""`trainer_mode=metered_sync`: verl's synchronous trainer (GRPO and the like), written down."""

from __future__ import annotations

from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from fpa_verl.integration.trainers.best_model import BestKeepingTrainer
from fpa_verl.integration.trainers.scorer_failures import ScorerFailureRule


@register_trainer("metered_sync")
class MeteredSyncTrainer(BestKeepingTrainer, ScorerFailureRule, PPOTrainerSync):
    """verl's `sync` trainer with run record and ledger, and a rule for failures of the scorer."""
