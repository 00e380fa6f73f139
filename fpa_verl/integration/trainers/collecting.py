"""Base of the trainers that sample for others to learn from: which problems, into which folder, at what cost."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from fpa_verl.files import hold
from fpa_verl.integration.config.identity import device_description
from fpa_verl.integration.config.typed_command import command_started_at
from fpa_verl.integration.config.versions import installed_versions
from fpa_verl.integration.say import say
from fpa_verl.integration.trainers.sampling_only import SamplingTrainer
from fpa_verl.rollouts.fingerprint import vocabulary_size
from fpa_verl.rollouts.problems import hold_out, write_problems
from fpa_verl.rollouts.schema import TRAIN, VALIDATION
from fpa_verl.rollouts.writer import PartWriter
from fpa_verl.runs.ledger import Ledger


class CollectingTrainer(SamplingTrainer):
    """Writes a dataset about the problems that are not held out.

    The held-out problems are written to validation.parquet for evaluation, the others to train.parquet, so that an
    online run can train on exactly these.
    """

    # Of the dataset.
    writer_class: ClassVar[type[PartWriter]]

    def _plan(self) -> dict[str, Any]:
        """What says of two datasets whether they are the same."""
        raise NotImplementedError

    def _prepare(self) -> None:
        folder, problems = self.facts.folder, self.facts.training_problems
        self._lock = hold(folder)
        held_out = hold_out((p.problem_id for p in problems), **self.config.validation)
        self.problems = [p for p in problems if p.problem_id not in held_out]
        self.writer = self.writer_class(folder, self._plan())
        write_problems(folder / "train.parquet", self.problems, TRAIN)
        write_problems(folder / "validation.parquet", [p for p in problems if p.problem_id in held_out], VALIDATION)
        self.ledger = Ledger(folder, started_at=command_started_at(), devices=self.devices)

    def _say_what_the_scorer_misses(self, statuses: list[str], unsolved: str) -> None:
        """Before hours are paid for answers in a form that it does not look for.

        Args:
            statuses: of the first responses.
            unsolved: the text of one that is not right, if there is one.
        """
        if why := self.facts.scorer.why_nothing_counts(statuses, unsolved):
            say(
                f"note: {why}. Is this the scorer for these problems (reward.custom_reward_function), and does the "
                "prompt ask for that form?"
            )

    def _about(self, **origin: Any) -> dict[str, Any]:
        """What the manifest has from the plan, the ledger and the machine; `origin` is added to its own."""
        model = str(self.config.actor_rollout_ref.model.path)
        return {
            **self.writer.plan,
            "cost": self.ledger.cost(device_description(self.config.trainer.device)),
            "origin": {
                "kind": self.facts.kind.name,
                "model": model,
                "vocabulary_size": vocabulary_size(model),
                "time": time.time(),
                "scorer": self.facts.scorer.as_json(),
                **origin,
            },
            "versions": installed_versions(),
        }
