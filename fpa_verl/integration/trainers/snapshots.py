"""A run keeps its model every so many steps, to be evaluated afterwards with one rollout engine for many runs."""

from __future__ import annotations

from fpa_verl.integration.config.identity import run_input
from fpa_verl.integration.trainers.best_model import BestKeepingTrainer
from fpa_verl.runs import ledger as phases
from fpa_verl.runs.inputs import MADE_BY
from fpa_verl.runs.snapshots import snapshot_folder


class SnapshotKeepingTrainer(BestKeepingTrainer):
    """Mixin before a verl trainer: after every `snapshots.every` steps, and after the last, the model is kept.

    What that takes is no part of what training costs: it stands in the place of an evaluation.
    """

    def on_step_end(self) -> None:
        super().on_step_end()
        every, step = self.config.snapshots.every, self.global_steps
        if every and (step % every == 0 or step >= self.total_training_steps):
            with self.ledger.phase(phases.EVALUATION):
                self._keep(step)

    def _keep(self, step: int) -> None:
        made_by = run_input(self.facts, self.info, step, self.ledger.spent()).as_json()
        about = {"step": step, "attempt": self.ledger.attempt, MADE_BY: made_by}
        self.actor_rollout_wg.export_hugging_face(str(snapshot_folder(self.run_dir, step)), about)
