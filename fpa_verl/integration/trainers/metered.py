"""Run record and ledger of any verl trainer, through its own hooks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta

from fpa_verl.files import atomic_path, hold
from fpa_verl.integration.config.typed_command import command_started_at
from fpa_verl.integration.safety import checkpoints
from fpa_verl.integration.safety.divergence import require_finite_loss
from fpa_verl.integration.trainers.base import WatchedTrainer
from fpa_verl.runs import ledger as phases
from fpa_verl.runs.ledger import Ledger
from fpa_verl.runs.metrics import PEAK_MEMORY
from fpa_verl.runs.names import CONFIG_FILE, metrics_file
from fpa_verl.runs.record import open_run


class MeteredTrainer(WatchedTrainer):
    """Mixin before a verl trainer: what it does stays verl's; when it did it is written down."""

    # Set by whoever ends the run before its last step.
    stopped_early = False
    _training = False
    _saved_step: int | None = None

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.run_dir = Path(config.run_dir).absolute()
        assert self.facts.kind.describe is not None
        self.info = self.facts.kind.describe(self.facts)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self._lock = hold(self.run_dir)
        open_run(self.run_dir, self.info)
        with atomic_path(self.run_dir / CONFIG_FILE) as file:
            OmegaConf.save(config, file, resolve=True)
        # verl would delete the older checkpoint before the newer is whole.
        self._checkpoints_kept = config.trainer.max_actor_ckpt_to_keep
        config.trainer.max_actor_ckpt_to_keep = None
        self.ledger = Ledger(
            self.run_dir,
            started_at=command_started_at(),
            devices=self.info["hardware"]["devices"],
            versions=self.info["versions"],
        )
        # verl's file logger empties the file it opens: each attempt gets one of its own.
        os.environ["VERL_FILE_LOGGER_PATH"] = str(self.run_dir / metrics_file(self.ledger.attempt))

    # ---- phases ---------------------------------------------------------------------------------

    def on_train_begin(self) -> None:
        self._training = True
        self.ledger.started()
        super().on_train_begin()

    def on_sample_begin(self) -> None:
        self.ledger.enter(phases.GENERATION)
        super().on_sample_begin()

    def on_sample_end(self) -> None:
        super().on_sample_end()
        self.ledger.leave()

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        with self.ledger.phase(phases.LOG_PROBS):
            return super()._compute_old_log_prob(batch, metrics)

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        with self.ledger.phase(phases.LOG_PROBS):
            return super()._compute_ref_log_prob(batch, metrics)

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        with self.ledger.phase(phases.TRAINING):
            batch = super()._update_actor(batch, metrics)
        require_finite_loss(self.global_steps, metrics)
        return batch

    def on_step_end(self) -> None:
        with self.ledger.phase(phases.WEIGHT_SYNC):
            super().on_step_end()

    def _save_checkpoint(self) -> None:
        if self._saved_step == self.global_steps:
            return
        folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
        with self.ledger.phase(phases.CHECKPOINTING):
            checkpoints.unseal(folder)
            super()._save_checkpoint()
            checkpoints.seal(folder)
            checkpoints.keep_newest(folder.parent, self._checkpoints_kept)
        self._saved_step = self.global_steps

    def on_train_end(self) -> None:
        super().on_train_end()
        # Killed in its last evaluation, a run has no step left to do; verl has counted one on.
        self._write("end", self.global_steps - 1)

    def on_validate_begin(self) -> None:
        self.ledger.enter(phases.EVALUATION)
        super().on_validate_begin()

    def on_validate_end(self) -> None:
        super().on_validate_end()
        self.ledger.leave()

    # ---- records --------------------------------------------------------------------------------

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps=global_steps, epoch=epoch)
        tokens = sum(tag["seq_len"] for tag in batch.tags)
        generates = self.facts.kind.generates
        generated = {"generated_tokens": sum(tag["response_len"] for tag in batch.tags)} if generates else {}
        is_last = global_steps >= self.total_training_steps
        self._write(
            "end" if is_last else "step",
            global_steps,
            tokens=tokens,
            peak_memory_gb=metrics.get(PEAK_MEMORY),
            **generated,
        )

    def _write(self, kind: str, step: int, **record: Any) -> None:
        early = {"stopped_early": True} if self.stopped_early else {}
        self.ledger.write(kind, step, total_steps=self.total_training_steps, **record, **early)
