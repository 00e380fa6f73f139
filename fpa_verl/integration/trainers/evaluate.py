"""`recipe=evaluate`: a model on any problem sets, with the rollout engine and the scorer of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.trainer_base import register_trainer

from fpa_verl.errors import DatasetError
from fpa_verl.files import hold
from fpa_verl.integration.config.beams import BEAM, decodes_by_beam
from fpa_verl.integration.config.typed_command import command_started_at
from fpa_verl.integration.servers.beams import BeamClient
from fpa_verl.integration.servers.client import RolloutClient
from fpa_verl.integration.servers.direct import DirectServers
from fpa_verl.integration.servers.evaluation import Evaluation, EvaluationPlan
from fpa_verl.integration.servers.values import value_servers
from fpa_verl.integration.trainers.sampling_only import SamplingTrainer
from fpa_verl.rollouts.problems import Problem
from fpa_verl.runs import ledger as phases
from fpa_verl.runs.answers import AnswerStore
from fpa_verl.runs.ledger import Ledger
from fpa_verl.runs.names import LOG_FILE
from fpa_verl.runs.record import open_run


@register_trainer("evaluate")
class Evaluator(SamplingTrainer):
    """Samples and scores answers, and keeps them; an evaluation that was interrupted asks for the missing ones."""

    def _prepare(self) -> None:
        facts = self.facts
        assert facts.kind.describe is not None
        info = facts.kind.describe(facts)
        self.run_dir = facts.run_dir
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self._lock = hold(self.run_dir)
        open_run(self.run_dir, info)
        self.plan = EvaluationPlan(facts.evaluation_problems, info["evaluation"]["samples"])
        self.ledger = Ledger(
            self.run_dir, started_at=command_started_at(), devices=self.devices, versions=info["versions"]
        )

    def work(self, agent_loop_manager: AgentLoopManager) -> None:
        self.evaluate(agent_loop_manager)
        self.ledger.write("end", 0)

    def evaluate(self, agent_loop_manager: AgentLoopManager) -> None:
        """Evaluate the model that the servers hold."""
        store = AnswerStore(self.run_dir)
        done = {(source, problem_id) for source, problem_id, _ in store.done()}
        answered = next((p for p in self.plan.problems if (p.data_source, p.problem_id) in done), None)
        client = self._client(agent_loop_manager, answered)
        self.ledger.started()
        evaluation = Evaluation(client, self.plan, store, self.run_dir, seeded=self.config.evaluation.seeded)
        self.ask(evaluation)
        evaluation.record(self.run_dir, self.ledger.attempt)

    def _client(self, agent_loop_manager: AgentLoopManager, answered: Problem | None) -> RolloutClient:
        """Whoever samples answers, or searches for them."""
        if not decodes_by_beam(self.config):
            return self.client(agent_loop_manager, last_answered=answered)
        servers = self.servers(agent_loop_manager)
        assert isinstance(servers, DirectServers)
        values = value_servers(self.config, BEAM, servers.servers)
        return BeamClient(servers, values, self.config, self.tokenizer, answered)

    def ask(self, evaluation: Evaluation) -> None:
        """Have all its answers.

        Raises:
            DatasetError: some could not be generated.
        """
        if left := evaluation.ask(self.config.data.train_batch_size, around=self._paid_for):
            raise DatasetError(
                f"{self.run_dir}: {len(left)} of {len(self.plan.requests)} answers could not be generated; look at "
                f"what the rollout engine says in {LOG_FILE}, and repeat the command: it asks for these alone"
            )

    @contextmanager
    def _paid_for(self) -> Iterator[None]:
        """A batch of answers in the ledger, whether or not it came to an end."""
        try:
            with self.ledger.phase(phases.EVALUATION):
                yield
        finally:
            self.ledger.write("step", 0)
