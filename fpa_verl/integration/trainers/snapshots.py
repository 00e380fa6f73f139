"""A run keeps its model every so many steps, to be evaluated afterwards with one rollout engine for many runs."""

from __future__ import annotations

from fpa_verl.integration.config.identity import run_input
from fpa_verl.integration.trainers.best_model import BestKeepingTrainer
from fpa_verl.runs import ledger as phases
from fpa_verl.runs.inputs import MADE_BY, MODEL_FILE
from fpa_verl.runs.snapshots import snapshot_folder


class SnapshotKeepingTrainer(BestKeepingTrainer):
    """Mixin before a verl trainer: the model is kept after every `snapshots.every` steps, and after the last planned.

    What that takes is no part of what training costs: it stands in the place of an evaluation.
    """

    def on_train_begin(self) -> None:
        super().on_train_begin()
        # verl saves before a step is at its end: a run that was killed in between goes on behind it.
        before = self.global_steps - 1
        if before and self._is_due(before) and not (snapshot_folder(self.run_dir, before) / MODEL_FILE).exists():
            self._keep_paid(before)

    def on_step_end(self) -> None:
        super().on_step_end()
        if self._is_due(self.global_steps):
            self._keep_paid(self.global_steps)

    def _is_due(self, step: int) -> bool:
        every = self.config.snapshots.every
        return bool(every) and (step % every == 0 or step >= self.total_training_steps)

    def _keep_paid(self, step: int) -> None:
        with self.ledger.phase(phases.EVALUATION):
            self._keep(step)

    def _keep(self, step: int) -> None:
        made_by = run_input(self.facts, self.info, step, self.ledger.spent()).as_json()
        about = {"step": step, "attempt": self.ledger.attempt, MADE_BY: made_by}
        self.actor_rollout_wg.export_hugging_face(str(snapshot_folder(self.run_dir, step)), about)
