"""The best model of a run is kept, and a run that no longer improves may end."""

from __future__ import annotations

from typing import Any

from fpa_verl.files import recover_folder
from fpa_verl.integration.config.identity import run_input
from fpa_verl.integration.say import say
from fpa_verl.integration.trainers.validating import ValidatingTrainer
from fpa_verl.runs import ledger as phases
from fpa_verl.runs.inputs import MADE_BY
from fpa_verl.runs.names import BEST_MODEL
from fpa_verl.runs.run import read_run
from fpa_verl.runs.validation import best_step, validation_accuracy, validation_sources


class BestKeepingTrainer(ValidatingTrainer):
    """Mixin before a verl trainer: after each validation, keep the model if it is the best so far.

    Best is the highest mean accuracy on the validation problems, the earliest of equals; the base
    model takes part but is not written again. `early_stopping.patience` validations in a row without
    a new best end the run.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        recover_folder(self.run_dir / BEST_MODEL)

    def on_validate_end(self) -> None:
        super().on_validate_end()
        with self.ledger.phase(phases.CHECKPOINTING):
            self._keep_if_best()

    def _keep_if_best(self) -> None:
        run = read_run(self.run_dir)
        if not validation_sources(run):
            return
        best = best_step(run)
        if best == self.global_steps and best > 0 and self.config.keep_best:
            about = {
                "step": best,
                "validation_accuracy": validation_accuracy(run, best),
                MADE_BY: run_input(self.facts, self.info, best, self.ledger.spent()).as_json(),
            }
            self.actor_rollout_wg.export_hugging_face(str(self.run_dir / BEST_MODEL), about)
        patience = self.config.early_stopping.patience
        since = sum(best < step <= self.global_steps for step in {point.step for point in run.points})
        if patience is not None and since >= patience and self.global_steps < self.total_training_steps:
            self._stop_early(best, since)

    def _stop_early(self, best: int, since: int) -> None:
        say(
            f"{self.run_dir}: no better validation accuracy in {since} evaluations since step {best}; "
            f"stopped at step {self.global_steps}"
        )
        self.stopped_early = True
        # verl's loop ends once it is past this step; the ledger takes it for the run's end.
        self.total_training_steps = self.global_steps
        if self.config.trainer.save_freq > 0:
            self._save_checkpoint()
