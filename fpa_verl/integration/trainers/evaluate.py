"""`recipe=evaluate`: a model on any problem sets, with the rollout engine and the scorer of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.trainer_base import register_trainer

from fpa_verl.errors import DatasetError
from fpa_verl.files import hold
from fpa_verl.integration.config.identity import describe_evaluation, evaluation_problems
from fpa_verl.integration.config.typed_command import command_started_at
from fpa_verl.integration.servers.client import Question, Rollout
from fpa_verl.integration.servers.evaluation import Answering, Answers, know_seeds
from fpa_verl.integration.trainers.sampling import Sampler
from fpa_verl.rollouts.problems import Problem
from fpa_verl.runs import ledger as phases
from fpa_verl.runs.answers import AnswerStore
from fpa_verl.runs.ledger import Ledger
from fpa_verl.runs.record import open_run


@register_trainer("evaluate")
class Evaluator(Answering, Sampler):
    """Samples and scores answers, and keeps them; an evaluation that was interrupted asks for the missing ones."""

    def _prepare(self) -> None:
        know_seeds(self.config)
        self.run_dir = Path(self.config.run_dir).absolute()
        problems = evaluation_problems(self.config)
        info = describe_evaluation(self.config)
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self._lock = hold(self.run_dir)
        open_run(self.run_dir, info)
        self.answers = Answers(problems, info["evaluation"]["samples"], AnswerStore(self.run_dir))
        done = {(source, problem_id) for source, problem_id, _ in self.answers.store.done()}
        self.answered = next((p for p in problems if (p.data_source, p.problem_id) in done), None)
        self.ledger = Ledger(
            self.run_dir, started_at=command_started_at(), devices=self.devices, versions=info["versions"]
        )

    def work(self, agent_loop_manager: AgentLoopManager) -> None:
        self.agent_loop_manager = agent_loop_manager
        self.global_steps = 0
        self.ledger.started()
        left = self.ask_for(self.answers, self.config.data.train_batch_size)
        if left:
            raise DatasetError(
                f"{self.run_dir}: {len(left)} of {len(self.answers.tasks)} answers could not be generated; look at "
                "what the rollout engine says above, and repeat the command: it asks for these alone"
            )
        self.record(self.answers, step=0)
        self.ledger.write("end", 0)

    def roll_out(
        self, problems: Sequence[Problem], question: Question, first_samples: Sequence[int] | None = None
    ) -> list[Rollout]:
        try:
            with self.ledger.phase(phases.EVALUATION):
                return super().roll_out(problems, question, first_samples)
        finally:
            # Paid for, whether or not it came to an end.
            self.ledger.write("step", 0)
