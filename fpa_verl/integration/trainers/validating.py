"""Evaluations of a run while it trains: those of `recipe=evaluate`, of the model that the run has by then."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pandas as pd

from fpa_verl.evaluation.samples import SampleStore
from fpa_verl.integration.identity import evaluation_problems
from fpa_verl.integration.trainers.answering import Answering, Answers, know_seeds
from fpa_verl.integration.trainers.metering import Metered
from fpa_verl.report.runs import answers_of_step
from fpa_verl.rollouts.schema import MODEL_STATUSES

logger = logging.getLogger(__name__)


class Validates(Metered, Answering):
    """Mixin before a verl trainer: it evaluates as `recipe=evaluate` does, in the place of verl's own validation.

    What verl logs of a validation it logs still, under the same names.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        know_seeds(config)
        self._problems = evaluation_problems(config)

    def _validate(self) -> dict[str, float]:
        """Metrics of a validation, as verl calls them."""
        folder = answers_of_step(self.ledger.attempt, self.global_steps)
        answers = Answers(self._problems, self.info["evaluation"]["samples"], SampleStore(self.run_dir, folder))
        if left := self.ask_for(answers, batch=len(answers.tasks)):
            logger.warning(
                "step %d: %d of %d answers could not be generated", self.global_steps, len(left), len(answers.tasks)
            )
        self.record(answers, self.global_steps, trained=self._training)
        found = answers.store.read()
        self._maybe_log_val_generations(
            inputs=self._prompts_of(found),
            outputs=found["response"].tolist(),
            scores=(found["status"] == "right").astype(float).tolist(),
        )
        return self._as_verl_logs(answers, found)

    def _prompts_of(self, found: pd.DataFrame) -> list[str]:
        """The question that each answer is to."""
        texts = {(p.data_source, p.problem_id): p.chat[-1]["content"] for p in self._problems}
        return [texts[row.data_source, row.problem_id] for row in found.itertuples()]

    def _as_verl_logs(self, answers: Answers, found: pd.DataFrame) -> dict[str, float]:
        """Accuracy of the answers that could be scored, under verl's names and with its statistics."""
        scored = found[found["status"].isin(MODEL_STATUSES)]
        unscored = answers.asked_for - Counter(scored["data_source"])
        metrics = self._val_metrics_update(
            scored["data_source"].tolist(),
            scored["problem_id"].tolist(),
            {"acc": (scored["status"] == "right").astype(float).tolist()},
            [],
        )
        return metrics | {f"val-aux/{source}/unscored": unscored[source] for source in answers.asked_for}
