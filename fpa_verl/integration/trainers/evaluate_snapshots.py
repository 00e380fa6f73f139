"""`recipe=evaluate_snapshots`: models that runs kept while they trained, one after the other in one rollout engine."""

from __future__ import annotations

from pathlib import Path

from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.trainer_base import register_trainer

from fpa_verl.files import hold
from fpa_verl.integration.say import say
from fpa_verl.integration.servers.client import RolloutClient
from fpa_verl.integration.servers.evaluation import Evaluation
from fpa_verl.integration.trainers.evaluate import Evaluator
from fpa_verl.runs.answers import AnswerStore
from fpa_verl.runs.names import answers_of_step
from fpa_verl.runs.run import read_run
from fpa_verl.runs.snapshots import Snapshot, keep_best_snapshot, not_evaluated
from fpa_verl.runs.state import accuracy


@register_trainer("evaluate_snapshots")
class SnapshotEvaluator(Evaluator):
    """Writes into each run what its snapshots reach, as if the run had validated itself."""

    def evaluate(self, agent_loop_manager: AgentLoopManager) -> None:
        client = self.client(agent_loop_manager)
        self.ledger.started()
        for run_dir in self.facts.runs:
            if open_ := not_evaluated(run_dir):
                # Nobody else is to write into it meanwhile.
                with hold(run_dir):
                    for snapshot in open_:
                        self._evaluate(client, run_dir, snapshot)
                    if self.config.keep_best:
                        keep_best_snapshot(run_dir)
                say(f"{run_dir}: {accuracy(read_run(run_dir))}")

    def _evaluate(self, client: RolloutClient, run_dir: Path, snapshot: Snapshot) -> None:
        client.load(snapshot.folder)
        evaluation = Evaluation(
            client,
            self.plan,
            AnswerStore(run_dir, answers_of_step(snapshot.attempt, snapshot.step)),
            self.run_dir,
            seeded=self.config.evaluation.seeded,
            step=snapshot.step,
        )
        self.ask(evaluation)
        evaluation.record(run_dir, snapshot.attempt, trained=True)
