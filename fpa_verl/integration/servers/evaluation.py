"""An evaluation, whether of a run that trains or of `recipe=evaluate`: which answers it wants, and keeping them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from omegaconf import DictConfig

from fpa_verl.integration.servers.client import Asks, Question, Rollout
from fpa_verl.integration.servers.verdicts import returned_by_scorer
from fpa_verl.paths import RECIPES
from fpa_verl.rollouts.problems import Problem
from fpa_verl.runs.answers import Answer, AnswerStore, outcomes
from fpa_verl.runs.ledger import Ledger
from fpa_verl.runs.record import record_evaluation


class Task(NamedTuple):
    """One answer that is wanted."""

    problem: Problem
    sample: int


class Answers:
    """The answers that one evaluation of a model wants, and those that it has.

    Args:
        problems: of all problem sets.
        samples: problem set to answers to each of its problems.
        store: where they are kept.
    """

    def __init__(self, problems: list[Problem], samples: Mapping[str, int], store: AnswerStore) -> None:
        self.tasks = [Task(problem, sample) for problem in problems for sample in range(samples[problem.data_source])]
        self.store = store

    @property
    def asked_for(self) -> Counter[str]:
        """By problem set."""
        return Counter(task.problem.data_source for task in self.tasks)

    def missing(self) -> list[Task]:
        done = self.store.done()
        return [t for t in self.tasks if (t.problem.data_source, t.problem.problem_id, t.sample) not in done]


class Answering(Asks):
    """Mixin before a trainer that has a run directory and a ledger: it evaluates the model that its servers hold."""

    run_dir: Path
    ledger: Ledger

    def ask_for(self, answers: Answers, batch: int) -> list[Task]:
        """Ask for the answers that are missing, and keep them as they come.

        Args:
            answers: what is wanted.
            batch: answers in flight at a time.

        Returns:
            Those that could not be generated.
        """
        return self.in_batches(
            answers.missing,
            lambda tasks: self._answer(answers, tasks),
            size=batch,
            total=len(answers.tasks),
            desc="Evaluating",
            unit="answer",
        )

    def _answer(self, answers: Answers, tasks: list[Task]) -> int:
        """Ask for a batch of answers and keep them; how many came."""
        # One prompt an answer: problem sets differ in how many they want.
        question = Question(n=1, validate=True, seeded=self.config.evaluation.seeded)
        rollouts = self.roll_out([task.problem for task in tasks], question, [task.sample for task in tasks])
        if rollouts:
            answers.store.add(self._sample(tasks[rollout.place], rollout) for rollout in rollouts)
        return len(rollouts)

    def _sample(self, task: Task, rollout: Rollout) -> Answer:
        return Answer(
            data_source=task.problem.data_source,
            problem_id=task.problem.problem_id,
            sample=task.sample,
            response=self.tokenizer.decode(rollout.response_ids, skip_special_tokens=True),
            response_tokens=len(rollout.response_ids),
            extracted=str(returned_by_scorer(rollout.verdict, "extracted", self.config)),
            status=rollout.status,
            finish_reason=rollout.finish_reason,
            ground_truth=task.problem.ground_truth,
        )

    def record(self, answers: Answers, step: int, *, trained: bool = False) -> pd.DataFrame:
        """Write the counts into the run directory.

        Args:
            answers: as far as they came; those that did not are counted as such.
            step: of the model that gave them.
            trained: whether this attempt trained that step, and does not go on from it.

        Returns:
            The answers that it counted, with the columns of `Answer`.
        """
        found = answers.store.read()
        record_evaluation(
            self.run_dir,
            attempt=self.ledger.attempt,
            step=step,
            problems={str(source): outcomes(part) for source, part in found.groupby("data_source")},
            asked_for=answers.asked_for,
            trained=trained,
        )
        return found


def know_seeds(config: DictConfig) -> None:
    """Tell verl of the agent loop that draws every answer with a seed, where the recipe wants it."""
    if config.evaluation.seeded:
        config.actor_rollout_ref.rollout.agent.agent_loop_config_path = str(RECIPES / "agents.yaml")
