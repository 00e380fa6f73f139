"""`recipe=collect`: a rollout dataset from verl's own rollout servers and reward loop, nothing else running."""

from __future__ import annotations

from collections import Counter
from typing import Any

from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.trainer_base import register_trainer

from fpa_verl.integration.config.identity import describe_collection
from fpa_verl.integration.servers.client import Arrived, Rollout, SamplingRequest, in_batches
from fpa_verl.integration.trainers.collecting import CollectingTrainer
from fpa_verl.rollouts.problems import Problem, in_modes, scored_as
from fpa_verl.rollouts.schema import MODES, TRAIN, Trajectory, mode_of
from fpa_verl.rollouts.traces import modes_of
from fpa_verl.rollouts.writer import RolloutWriter
from fpa_verl.runs import ledger as phases
from fpa_verl.runs.progress import Tally


@register_trainer("collect")
class Collector(CollectingTrainer):
    """Samples `rollout.n` responses a problem and writes them as a rollout dataset."""

    writer_class = RolloutWriter
    writer: RolloutWriter

    def _plan(self) -> dict[str, Any]:
        return describe_collection(self.facts)

    def work(self, agent_loop_manager: AgentLoopManager) -> None:
        self.shards = 0
        done = self.writer.problems_done()
        answered = next((p for p in self.problems if p.problem_id in done), None)
        self.rollout_client = self.client(agent_loop_manager, last_answered=answered)
        self.ledger.started()
        self.modes = modes_of(self.config.collect.mode, "collect.mode")
        n = self.config.actor_rollout_ref.rollout.n * len(self.modes)
        answers, before = n * len(self.problems), n * len(done & {p.problem_id for p in self.problems})
        left = in_batches(
            self._missing,
            self._collect,
            size=self.config.data.train_batch_size,
            tally=Tally(self.facts.rollouts, "collecting", "answers", total=answers, done=before),
            done=before,
        )
        self.ledger.write("end", self.shards)
        self.writer.finish(**self._about(problems_missing=len(left)))

    def _missing(self) -> list[Problem]:
        done = self.writer.problems_done()
        return [p for p in self.problems if p.problem_id not in done]

    def _collect(self, problems: list[Problem], arrived: Arrived) -> int:
        """Write one shard of complete groups; the number of answers in it."""
        n = self.config.actor_rollout_ref.rollout.n
        try:
            with self.ledger.phase(phases.GENERATION):
                rollouts = self.rollout_client.answers(
                    in_modes(problems, self.modes), SamplingRequest(n, step=self.shards), arrived=arrived
                )
        finally:
            # Paid for, whether or not it came to an end.
            self.ledger.write("step", self.shards)
        self.shards += 1
        if self.shards == 1:
            silent = next((rollout for rollout in rollouts if rollout.status != "right"), None)
            text = self.rollout_client.text(silent) if silent else ""
            self._say_what_the_scorer_misses([rollout.status for rollout in rollouts], text)
        sizes = Counter(rollout.problem.problem_id for rollout in rollouts)
        whole = [r for r in rollouts if sizes[r.problem.problem_id] == n * len(self.modes)]
        complete = sorted(map(self._trajectory, whole), key=lambda t: (t.problem_id, t.group, t.sample))
        if complete:
            self.writer.add(complete)
        return len(complete)

    def _trajectory(self, rollout: Rollout) -> Trajectory:
        sampling = self.writer.plan["sampling"]
        return Trajectory(
            problem_id=rollout.problem.problem_id,
            # Those of a mode are compared with each other.
            group=MODES.index(mode_of(rollout.problem.data_source)),
            sample=rollout.sample,
            split=TRAIN,
            data_source=scored_as(rollout.problem),
            ground_truth=rollout.problem.ground_truth,
            prompt_ids=rollout.prompt_ids,
            response_ids=rollout.response_ids,
            behaviour_log_probs=rollout.log_probs,
            score=rollout.score,
            status=rollout.status,
            finish_reason=rollout.finish_reason,
            temperature=sampling["temperature"],
            top_p=sampling["top_p"],
            top_k=sampling["top_k"],
            max_response_tokens=sampling["max_response_tokens"],
            mode=rollout.mode,
            trace_tokens=rollout.trace_tokens,
        )
