"""`recipe=collect`: a rollout dataset from verl's own rollout servers and reward loop, nothing else running."""

from __future__ import annotations

import time
from collections import Counter

from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.trainer_base import register_trainer

from fpa_verl.files import hold
from fpa_verl.integration.config.identity import describe_collection, device_description
from fpa_verl.integration.config.typed_command import command_started_at
from fpa_verl.integration.config.versions import installed_versions
from fpa_verl.integration.say import say
from fpa_verl.integration.servers.client import Arrived, Rollout, SamplingRequest, in_batches
from fpa_verl.integration.trainers.sampling_only import SamplingTrainer
from fpa_verl.rollouts.fingerprint import vocabulary_size
from fpa_verl.rollouts.manifest import Manifest
from fpa_verl.rollouts.problems import Problem, hold_out, in_modes, scored_as, write_problems
from fpa_verl.rollouts.schema import MODES, TRAIN, VALIDATION, Trajectory, mode_of
from fpa_verl.rollouts.traces import modes_of
from fpa_verl.rollouts.writer import RolloutWriter
from fpa_verl.runs import ledger as phases
from fpa_verl.runs.ledger import Ledger
from fpa_verl.runs.progress import Tally


@register_trainer("collect")
class Collector(SamplingTrainer):
    """Samples `rollout.n` responses a problem and writes them as a rollout dataset.

    The held-out problems get no rollouts: they are written to validation.parquet for evaluation,
    the others to train.parquet, so that an online run can train on exactly these.
    """

    def _prepare(self) -> None:
        folder, problems = self.facts.rollouts, self.facts.training_problems
        self._lock = hold(folder)
        held_out = hold_out((p.problem_id for p in problems), **self.config.validation)
        self.problems = [p for p in problems if p.problem_id not in held_out]
        self.writer = RolloutWriter(folder, describe_collection(self.facts))
        write_problems(folder / "train.parquet", self.problems, TRAIN)
        write_problems(folder / "validation.parquet", [p for p in problems if p.problem_id in held_out], VALIDATION)
        self.ledger = Ledger(folder, started_at=command_started_at(), devices=self.devices)

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
        self._finish(problems_missing=len(left))

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
            self._say_what_the_scorer_misses(rollouts)
        sizes = Counter(rollout.problem.problem_id for rollout in rollouts)
        whole = [r for r in rollouts if sizes[r.problem.problem_id] == n * len(self.modes)]
        complete = sorted(map(self._trajectory, whole), key=lambda t: (t.problem_id, t.group, t.sample))
        if complete:
            self.writer.add(complete)
        return len(complete)

    def _say_what_the_scorer_misses(self, rollouts: list[Rollout]) -> None:
        """Before hours are paid for answers in a form that it does not look for."""
        silent = next((rollout for rollout in rollouts if rollout.status != "right"), None)
        text = self.rollout_client.text(silent) if silent else ""
        if why := self.facts.scorer.why_nothing_counts([rollout.status for rollout in rollouts], text):
            say(
                f"note: {why}. Is this the scorer for these problems (reward.custom_reward_function), and does the "
                "prompt ask for that form?"
            )

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

    def _finish(self, problems_missing: int) -> Manifest:
        plan = self.writer.plan
        return self.writer.finish(
            fingerprints=plan["fingerprints"],
            sampling=plan["sampling"],
            validation=plan["validation"],
            cost=self.ledger.cost(device_description(self.config.trainer.device)),
            origin={
                "kind": "collect",
                "model": self.config.actor_rollout_ref.model.path,
                "vocabulary_size": vocabulary_size(str(self.config.actor_rollout_ref.model.path)),
                "time": time.time(),
                "problems_missing": problems_missing,
                "scorer": self.facts.scorer.as_json(),
            },
            versions=installed_versions(),
        )
