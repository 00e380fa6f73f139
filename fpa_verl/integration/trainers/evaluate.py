"""`recipe=evaluate`: a model on any problem sets, with the rollout engine and the scorer of training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.trainer_base import register_trainer

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation.samples import Sample, SampleStore, outcomes
from fpa_verl.files import hold
from fpa_verl.integration.identity import describe_evaluation
from fpa_verl.integration.settings import as_list
from fpa_verl.integration.trainers.metering import command_started_at
from fpa_verl.integration.trainers.sampling import Rollout, Sampler
from fpa_verl.integration.trainers.verdicts import returned_by_scorer
from fpa_verl.integration.workers.seeded import SEEDED_SINGLE_TURN
from fpa_verl.paths import RECIPES
from fpa_verl.report import ledger as phases
from fpa_verl.report.ledger import Ledger
from fpa_verl.report.runs import open_run, record_evaluation
from fpa_verl.rollouts.problems import Problem, read_problems


class Task(NamedTuple):
    """One answer that is wanted."""

    problem: Problem
    sample: int


@register_trainer("evaluate")
class Evaluator(Sampler):
    """Samples and scores answers, and keeps them; an evaluation that was interrupted asks for the missing ones."""

    def _prepare(self) -> None:
        if self.config.evaluation.seeded:
            agent = self.config.actor_rollout_ref.rollout.agent
            agent.agent_loop_config_path = str(RECIPES / "agents.yaml")
            agent.default_agent_loop = SEEDED_SINGLE_TURN
        self.folder = Path(self.config.run_dir).absolute()
        problems = read_problems(as_list(self.config.data.val_files))
        info = describe_evaluation(self.config)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = hold(self.folder)
        open_run(self.folder, info)
        self.tasks = [
            Task(problem, sample)
            for problem in problems
            for sample in range(info["evaluation"]["samples"][problem.data_source])
        ]
        self.store = SampleStore(self.folder)
        done = {problem_id for _, problem_id, _ in self.store.done()}
        self.answered = next((p for p in problems if p.problem_id in done), None)
        self.ledger = Ledger(
            self.folder, started_at=command_started_at(), devices=self.devices, versions=info["versions"]
        )

    def work(self, agent_loop_manager: AgentLoopManager) -> None:
        self.agent_loop_manager = agent_loop_manager
        self.global_steps = 0
        self.ledger.started()
        left = self.in_batches(self._missing, self._answer, total=len(self.tasks), desc="Evaluating", unit="answer")
        if left:
            raise DatasetError(
                f"{self.folder}: {len(left)} of {len(self.tasks)} answers could not be generated; look at what the "
                "rollout engine says above, and repeat the command: it asks for these alone"
            )
        self._record()
        self.ledger.write("end", 0)

    def _missing(self) -> list[Task]:
        done = self.store.done()
        return [t for t in self.tasks if (t.problem.data_source, t.problem.problem_id, t.sample) not in done]

    def _answer(self, tasks: list[Task]) -> int:
        """Ask for a batch of answers and keep them; how many came."""
        try:
            with self.ledger.phase(phases.EVALUATION):
                rollouts = self.roll_out([task.problem for task in tasks], [task.sample for task in tasks])
        finally:
            self.ledger.write("step", 0)
        if rollouts:
            self.store.add(self._sample(tasks[rollout.place], rollout) for rollout in rollouts)
        return len(rollouts)

    def _sample(self, task: Task, rollout: Rollout) -> Sample:
        return Sample(
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

    def _record(self) -> None:
        """Write the counts where a training run has those of its evaluations."""
        record_evaluation(
            self.folder,
            attempt=self.ledger.attempt,
            step=0,
            problems={str(source): outcomes(part) for source, part in self.store.read().groupby("data_source")},
            asked_for=Counter(task.problem.data_source for task in self.tasks),
        )
