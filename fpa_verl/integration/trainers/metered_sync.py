"""`trainer_mode=metered_sync`: verl's synchronous trainer (GRPO and the like), written down."""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.debug import marked_timer

from fpa_verl.integration.trainers.loops import LoopsWhereNeeded
from fpa_verl.integration.trainers.scorer_failures import ScorerFailureRule
from fpa_verl.integration.trainers.snapshots import SnapshotKeepingTrainer
from fpa_verl.runs import ledger as phases


@register_trainer("metered_sync")
class MeteredSyncTrainer(SnapshotKeepingTrainer, ScorerFailureRule, PPOTrainerSync):
    """verl's `sync` trainer with run record and ledger, and a rule for failures of the scorer."""

    def work(self, agent_loop_manager: AgentLoopManager) -> None:
        if isinstance(agent_loop_manager, LoopsWhereNeeded) and not agent_loop_manager.agent_loop_workers:
            agent_loop_manager.servers = self.servers(agent_loop_manager)
        super().work(agent_loop_manager)

    def prepare_step(self) -> dict[str, Any]:
        """Hand problems over; answers that come without agent loops are waited for here, as a part of generation."""
        with marked_timer("gen", self.timing_raw, color="red"), self.ledger.phase(phases.GENERATION):
            return super().prepare_step()
