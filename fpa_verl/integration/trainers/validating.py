"""Evaluations of a run while it trains: those of `recipe=evaluate`, of the model that the run has by then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from verl.experimental.agent_loop import AgentLoopManager

from fpa_verl.evaluation import pass_at_1
from fpa_verl.integration.config.settings import validates
from fpa_verl.integration.say import warn
from fpa_verl.integration.servers.client import RolloutClient
from fpa_verl.integration.servers.evaluation import Evaluation, EvaluationPlan
from fpa_verl.integration.trainers.metered import MeteredTrainer
from fpa_verl.reward.verdicts import MODEL_STATUSES
from fpa_verl.rollouts.index import cut_off_in_trace
from fpa_verl.rollouts.schema import CUT_OFF, STOPPED_AT_TEXT
from fpa_verl.runs.answers import AnswerStore, outcomes
from fpa_verl.runs.names import answers_of_step
from fpa_verl.runs.record import record_base
from fpa_verl.runs.run import read_run


class ValidatingTrainer(MeteredTrainer):
    """Mixin before a verl trainer: it evaluates as `recipe=evaluate` does, in the place of verl's own validation.

    The accuracy is logged under verl's name for it.
    """

    def __init__(self, config: Any) -> None:
        if not validates(config):
            # Where there are no problems, whatever the recipe says.
            config.trainer.test_freq, config.trainer.val_before_train = -1, False
        super().__init__(config)
        self._plan = EvaluationPlan(self.facts.evaluation_problems, self.info["evaluation"]["samples"])
        if config.evaluation.base:
            record_base(self.run_dir, read_run(Path(config.evaluation.base)), self.ledger.attempt)

    def work(self, agent_loop_manager: AgentLoopManager) -> None:
        if validates(self.config):
            self.rollout_client: RolloutClient = self.client(agent_loop_manager)
        super().work(agent_loop_manager)

    def _validate(self) -> dict[str, float]:
        """Metrics of a validation, as verl calls them."""
        store = AnswerStore(self.run_dir, answers_of_step(self.ledger.attempt, self.global_steps))
        seeded = self.config.evaluation.seeded
        evaluation = Evaluation(
            self.rollout_client, self._plan, store, self.run_dir, seeded=seeded, step=self.global_steps
        )
        if left := evaluation.ask():
            asked_for = len(self._plan.requests)
            warn(f"step {self.global_steps}: {len(left):,} of {asked_for:,} answers could not be generated")
        found = evaluation.record(self.run_dir, self.ledger.attempt, trained=self._training)
        self._maybe_log_val_generations(
            inputs=prompts_of(self._plan, found),
            outputs=found["response"].tolist(),
            scores=(found["status"] == "right").astype(float).tolist(),
        )
        return validation_metrics(self._plan, found)


def prompts_of(plan: EvaluationPlan, answers: pd.DataFrame) -> list[str]:
    """The question that each answer is to."""
    texts = {(p.data_source, p.problem_id): p.chat[-1]["content"] for p in plan.problems}
    return [texts[row.data_source, row.problem_id] for row in answers.itertuples()]


def validation_metrics(plan: EvaluationPlan, answers: pd.DataFrame) -> dict[str, float]:
    """What verl's loggers get: accuracy over the answers that could be scored, and what became of the others."""
    metrics: dict[str, float] = {}
    for source, asked_for in plan.asked_for.items():
        mine = answers[answers["data_source"] == source]
        right = outcomes(mine)
        if right:
            metrics[f"val-core/{source}/acc/mean@{plan.samples[source]}"] = pass_at_1(right).mean
        metrics[f"val-aux/{source}/unscored"] = asked_for - int(mine["status"].isin(MODEL_STATUSES).sum())
        if len(mine):
            metrics[f"val-aux/{source}/truncated"] = float((mine["finish_reason"] == CUT_OFF).mean())
            metrics[f"val-aux/{source}/stopped_at_text"] = float((mine["finish_reason"] == STOPPED_AT_TEXT).mean())
            metrics[f"val-aux/{source}/response_tokens"] = float(mine["response_tokens"].mean())
            if (mine["trace_tokens"] > 0).any():
                metrics[f"val-aux/{source}/trace_tokens"] = float(mine["trace_tokens"].mean())
                metrics[f"val-aux/{source}/truncated_in_trace"] = float(cut_off_in_trace(mine).mean())
    return metrics
