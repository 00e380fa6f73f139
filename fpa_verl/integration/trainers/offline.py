"""`trainer_mode=offline`: training on a static rollout dataset."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.utils.metric import reduce_metrics

from fpa_verl.files import append_json_line
from fpa_verl.integration.config.mixing import mixing_objective
from fpa_verl.integration.safety.divergence import RIGHT_WEIGHT, CoarseCacheWatch, CollapseWatch
from fpa_verl.integration.say import warn
from fpa_verl.integration.trainers.foresight import LAMBDA, SECONDS, ForesightLooks
from fpa_verl.integration.trainers.mixing import MixingWeight
from fpa_verl.integration.trainers.offline_loop import OfflineLoop
from fpa_verl.integration.trainers.snapshots import SnapshotKeepingTrainer
from fpa_verl.integration.workers.dynamics import trajectory_means
from fpa_verl.integration.workers.foresight import FUTURE_LAMBDA
from fpa_verl.integration.workers.mixing import MIXING_WEIGHT
from fpa_verl.integration.workers.tokens import NOTE_TOKENS, NoteRequest
from fpa_verl.runs import ledger as phases
from fpa_verl.runs.metrics import read_metrics
from fpa_verl.runs.names import BATCHES_FILE


@register_trainer("offline")
class OfflineTrainer(SnapshotKeepingTrainer, OfflineLoop):
    """Offline updates, written down: which rows, what they did to right and wrong ones, and whether it harms."""

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        step, attempt = self.global_steps, self.ledger.attempt
        if self._mixing is not None:
            metrics.update(self._mix(batch, step))
        self._foresee(step - 1, metrics)
        if self._foresight.finds_lambda:
            batch.extra_info[FUTURE_LAMBDA] = metrics[LAMBDA] = self._foresight.lam(step)
        if (every := self.config.gradient_norms.every) and step % every == 0:
            # A look at the run, and no part of what training costs.
            with self.ledger.phase(phases.EVALUATION):
                metrics.update(self._gradient_norms(batch))
        if self.config.note_tokens:
            batch.extra_info[NOTE_TOKENS] = NoteRequest(str(self.run_dir), attempt, step)
        batch = super()._update_actor(batch, metrics)
        self._foresee(step, metrics)
        metrics.update(trajectory_means(metrics))
        for watch in (self._collapse_watch, self._cache_watch):
            if warning := watch.see(step, metrics):
                warn(warning)
        rows = [tag["row"] for tag in batch.tags if "row" in tag]
        append_json_line(self.run_dir / BATCHES_FILE, {"attempt": attempt, "step": step, "rows": rows})
        return batch

    def _mix(self, batch: KVBatchMeta, step: int) -> dict[str, float]:
        """Give the batch the weight of its gradients where that is estimated; what was found of them, if it was."""
        mixing = self._mixing
        assert mixing is not None
        # An estimate that training goes by is part of what that costs; beside a fixed weight it is a look at the run.
        with self.ledger.phase(phases.TRAINING if mixing.is_estimated else phases.EVALUATION):
            found = mixing.look(step) if mixing.is_due(step) else {}
        if mixing.is_estimated:
            batch.extra_info[MIXING_WEIGHT] = mixing.at(step)
        return found

    def _foresee(self, step: int, metrics: dict) -> None:
        """Look at the policy after so many updates, where that is due."""
        if not self._foresight.is_due(step):
            return
        with self.ledger.phase(phases.TRAINING if self._foresight.finds_lambda else phases.EVALUATION):
            found = self._foresight.look(step, self._saved_step)
        # Before the first update and after it may be the same step.
        metrics.update({**found, SECONDS: found[SECONDS] + metrics.get(SECONDS, 0.0)})

    def on_train_end(self) -> None:
        super().on_train_end()
        # Without a step left to make: killed in its last evaluation.
        self._foresight.end()

    def _compute_metrics(self, *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(*args, **kwargs)
        if self.global_steps >= self.total_training_steps:
            self._foresight.end()

    @cached_property
    def _foresight(self) -> ForesightLooks:
        return ForesightLooks(
            self.facts,
            self.run_dir,
            self.actor_rollout_wg,
            steps=self.total_training_steps,
            begins=self.global_steps,
            logged=read_metrics(self.run_dir),
        )

    @cached_property
    def _mixing(self) -> MixingWeight | None:
        if mixing_objective(self.facts) is None:
            return None
        return MixingWeight(self.facts, self.actor_rollout_wg, read_metrics(self.run_dir))

    def _gradient_norms(self, batch: KVBatchMeta) -> dict[str, float]:
        """Of right and of wrong trajectories apart, before the update."""
        batch.extra_info["global_batch_size"] = len(batch.keys)
        output = self.actor_rollout_wg.gradient_norms(batch)
        return reduce_metrics(dict(output["metrics"]))

    @cached_property
    def _collapse_watch(self) -> CollapseWatch:
        earlier = read_metrics(self.run_dir).get(RIGHT_WEIGHT, {})
        before = {step: weight for step, weight in earlier.items() if step < self.global_steps}
        return CollapseWatch(self.facts.collapse, before, self.total_training_steps)

    @cached_property
    def _cache_watch(self) -> CoarseCacheWatch:
        return CoarseCacheWatch(self.config.reference.samples)
