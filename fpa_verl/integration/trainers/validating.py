"""Evaluations of a run while it trains: those of `recipe=evaluate`, of the model that the run has by then."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from fpa_verl.evaluation import pass_at_1
from fpa_verl.integration.config.identity import evaluation_problems
from fpa_verl.integration.servers.evaluation import Answering, Answers, know_seeds
from fpa_verl.integration.trainers.metered import Metered
from fpa_verl.rollouts.schema import MODEL_STATUSES
from fpa_verl.runs.answers import AnswerStore, outcomes
from fpa_verl.runs.names import answers_of_step

logger = logging.getLogger(__name__)


class Validates(Metered, Answering):
    """Mixin before a verl trainer: it evaluates as `recipe=evaluate` does, in the place of verl's own validation.

    The accuracy is logged under verl's name for it.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        know_seeds(config)
        self._problems = evaluation_problems(config)
        self._samples = self.info["evaluation"]["samples"]

    def _validate(self) -> dict[str, float]:
        """Metrics of a validation, as verl calls them."""
        folder = answers_of_step(self.ledger.attempt, self.global_steps)
        answers = Answers(self._problems, self._samples, AnswerStore(self.run_dir, folder))
        if left := self.ask_for(answers, batch=len(answers.tasks)):
            logger.warning(
                "step %d: %d of %d answers could not be generated", self.global_steps, len(left), len(answers.tasks)
            )
        found = self.record(answers, self.global_steps, trained=self._training)
        self._maybe_log_val_generations(
            inputs=self._prompts_of(found),
            outputs=found["response"].tolist(),
            scores=(found["status"] == "right").astype(float).tolist(),
        )
        return self._logged(answers, found)

    def _prompts_of(self, found: pd.DataFrame) -> list[str]:
        """The question that each answer is to."""
        texts = {(p.data_source, p.problem_id): p.chat[-1]["content"] for p in self._problems}
        return [texts[row.data_source, row.problem_id] for row in found.itertuples()]

    def _logged(self, answers: Answers, found: pd.DataFrame) -> dict[str, float]:
        """What verl's loggers get: accuracy over the answers that could be scored, and what became of the others."""
        metrics: dict[str, float] = {}
        for source, asked_for in answers.asked_for.items():
            mine = found[found["data_source"] == source]
            right = outcomes(mine)
            if right:
                metrics[f"val-core/{source}/acc/mean@{self._samples[source]}"] = pass_at_1(right).mean
            metrics[f"val-aux/{source}/unscored"] = asked_for - int(mine["status"].isin(MODEL_STATUSES).sum())
            if len(mine):
                metrics[f"val-aux/{source}/truncated"] = float((mine["finish_reason"] == "length").mean())
                metrics[f"val-aux/{source}/response_tokens"] = float(mine["response_tokens"].mean())
        return metrics
