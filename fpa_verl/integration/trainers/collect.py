"""`recipe=collect`: a rollout dataset from verl's own rollout servers and reward loop, nothing else running."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from tqdm import tqdm
from verl.experimental.agent_loop import AgentLoopManager
from verl.experimental.reward_loop import RewardLoopManager
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.utils import tensordict_utils as tu
from verl.workers.rollout.llm_server import LLMServerManager

from fpa_verl.integration.identity import device_description, model_identity
from fpa_verl.integration.settings import as_list
from fpa_verl.integration.trainers.metering import POLL_INTERVAL_S, command_started_at
from fpa_verl.integration.trainers.synchronous import Synchronous
from fpa_verl.integration.versions import installed_versions
from fpa_verl.report import ledger as phases
from fpa_verl.report.ledger import Ledger
from fpa_verl.reward.math_answer import scorer_fingerprint
from fpa_verl.rollouts.fingerprint import local_model_dir, problems_fingerprint
from fpa_verl.rollouts.manifest import Manifest
from fpa_verl.rollouts.problems import Problem, hold_out, read_problems, write_problems
from fpa_verl.rollouts.schema import TRAIN, VALIDATION, Trajectory
from fpa_verl.rollouts.writer import RolloutWriter


@register_trainer("collect")
class Collector(Synchronous):
    """Samples `rollout.n` responses a problem and writes them as a rollout dataset.

    The held-out problems get no rollouts: they are written to validation.parquet for evaluation,
    the others to train.parquet, so that an online run can train on exactly these.
    """

    def _setup(self) -> None:
        self.replay_buffer.poll_interval = POLL_INTERVAL_S
        self.folder = Path(self.config.rollouts)
        self._init_tokenizer()
        self.stop_ids = _stop_ids(self.config.actor_rollout_ref.model.path, self.tokenizer.eos_token_id)
        problems = read_problems(as_list(self.config.data.train_files))
        held_out = hold_out((p.problem_id for p in problems), **self.config.validation)
        self.problems = [p for p in problems if p.problem_id not in held_out]
        self.writer = RolloutWriter(self.folder, self._plan(problems))
        write_problems(self.folder / "train.parquet", self.problems, TRAIN)
        write_problems(
            self.folder / "validation.parquet", [p for p in problems if p.problem_id in held_out], VALIDATION
        )
        rollout = self.config.actor_rollout_ref.rollout
        devices = rollout.n_gpus_per_node * rollout.nnodes
        self.ledger = Ledger(self.folder, started_at=command_started_at(), devices=devices)
        self.llm_server_manager = LLMServerManager.create(config=self.config)
        self.reward_loop_manager = RewardLoopManager(config=self.config)
        self.teacher_model_manager = None

    def on_sample_end(self) -> None:
        """Nothing shares the devices with the rollout servers."""

    def on_step_end(self) -> None:
        """There are no steps."""

    def _plan(self, problems: list[Problem]) -> dict[str, Any]:
        rollout = self.config.actor_rollout_ref.rollout
        return {
            "fingerprints": {
                **model_identity(self.config),
                "scorer": scorer_fingerprint(),
                "problems": problems_fingerprint(problems),
            },
            "sampling": {
                "temperature": rollout.temperature,
                "top_p": rollout.top_p,
                "top_k": rollout.top_k,
                "max_response_tokens": self.config.data.max_response_length,
                "rollouts_per_problem": rollout.n,
                "seed": rollout.seed,
            },
            "validation": dict(self.config.validation),
        }

    def fit(self, agent_loop_manager: AgentLoopManager) -> None:
        self.agent_loop_manager = agent_loop_manager
        self.global_steps = 0
        done = len(self.writer.problems_done())
        self.ledger.started()
        with tqdm(total=len(self.problems), initial=done, desc="Collecting", unit="problem") as progress:
            # What failed to generate is tried once more, then counted as missing.
            for _ in range(2):
                for batch in _chunks(self._missing(), self.config.data.train_batch_size):
                    progress.update(self._collect(batch))
        self.ledger.write("end", self.global_steps)
        self._finish()

    def _missing(self) -> list[Problem]:
        done = self.writer.problems_done()
        return [p for p in self.problems if p.problem_id not in done]

    def _collect(self, problems: list[Problem]) -> int:
        """Write one shard of complete groups; the number of problems in it."""
        try:
            with self.ledger.phase(phases.GENERATION):
                trajectories = self._roll_out(problems)
        finally:
            # Paid for, whether or not it came to an end.
            self.ledger.write("step", self.global_steps)
        self.global_steps += 1
        sizes = Counter(t.problem_id for t in trajectories)
        complete = [t for t in trajectories if sizes[t.problem_id] == self.config.actor_rollout_ref.rollout.n]
        if complete:
            self.writer.add(complete)
        return len({t.problem_id for t in complete})

    def _roll_out(self, problems: list[Problem]) -> list[Trajectory]:
        by_uid = {str(uuid.uuid4()): problem for problem in problems}
        self._submit_batch_to_rollout(_prompts(by_uid))
        batch, _ = self.replay_buffer.sample(global_steps=0, partition_id="train", batch_size=len(by_uid))
        fields = ["prompts", "responses", "rollout_log_probs", "rm_scores", "extra_fields"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        columns = zip(batch.keys, *(list(data[name]) for name in fields), strict=True)
        trajectories = [self._trajectory(by_uid, *column) for column in columns]
        tq.kv_clear(keys=batch.keys, partition_id=batch.partition_id)
        return sorted(trajectories, key=lambda t: (t.problem_id, t.sample))

    def _trajectory(
        self,
        by_uid: dict[str, Problem],
        key: str,
        prompt: torch.Tensor,
        response: torch.Tensor,
        log_probs: torch.Tensor,
        scores: torch.Tensor,
        extra_fields: Any,
    ) -> Trajectory:
        uid, sample, _ = key.rsplit("_", 2)
        problem, sampling = by_uid[uid], self.writer.plan["sampling"]
        extra = getattr(extra_fields, "data", extra_fields)
        response_ids = response.tolist()
        return Trajectory(
            problem_id=problem.problem_id,
            group=0,
            sample=int(sample),
            split=TRAIN,
            data_source=problem.data_source,
            ground_truth=problem.ground_truth,
            prompt_ids=prompt.tolist(),
            response_ids=response_ids,
            behaviour_log_probs=log_probs.tolist(),
            score=float(scores.sum()),
            status=extra["reward_extra_info"]["status"],
            # The engine does not pass its reason on; an end-of-sequence token is the reason.
            finish_reason="stop" if response_ids[-1] in self.stop_ids else "length",
            temperature=sampling["temperature"],
            top_p=sampling["top_p"],
            top_k=sampling["top_k"],
            max_response_tokens=sampling["max_response_tokens"],
        )

    def _finish(self) -> Manifest:
        plan = self.writer.plan
        return self.writer.finish(
            fingerprints=plan["fingerprints"],
            sampling=plan["sampling"],
            validation=plan["validation"],
            cost=self.ledger.cost(device_description()),
            origin={
                "kind": "collect",
                "model": self.config.actor_rollout_ref.model.path,
                "time": time.time(),
                "problems_missing": len(self._missing()),
            },
            versions=installed_versions(),
        )


def _stop_ids(model: str, eos_token_id: int) -> set[int]:
    """The tokens that end a response: the tokenizer's, and those of the model's generation_config.json."""
    file = local_model_dir(model) / "generation_config.json"
    more = json.loads(file.read_text()).get("eos_token_id", []) if file.exists() else []
    return {eos_token_id, *(more if isinstance(more, list) else [more])}


def _chunks(problems: list[Problem], size: int) -> Iterator[list[Problem]]:
    for start in range(0, len(problems), size):
        yield problems[start : start + size]


def _object_array(values: list[Any]) -> np.ndarray:
    """A 1-D object array, whatever the values look like to numpy."""
    return np.fromiter(values, dtype=object, count=len(values))


def _prompts(by_uid: dict[str, Problem]) -> Any:
    """A prompt batch as verl's dataloader would hand it to the agent loop."""
    problems = list(by_uid.values())
    batch = tu.get_tensordict(
        {
            "uid": _object_array(list(by_uid)),
            "raw_prompt": _object_array([p.chat for p in problems]),
            "data_source": _object_array([p.data_source for p in problems]),
            "reward_model": _object_array([{"style": "rule", "ground_truth": p.ground_truth} for p in problems]),
            "extra_info": _object_array([{"problem_id": p.problem_id} for p in problems]),
            "index": _object_array([p.problem_id for p in problems]),
            "dummy_tensor": torch.zeros(len(problems), 1, dtype=torch.uint8),
        }
    )
    tu.assign_non_tensor_data(batch, "global_steps", 0)
    return batch
