"""Base of the trainers that sample and score and train nothing: verl's rollout servers and reward loop alone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import transfer_queue as tq
from tqdm import tqdm
from verl.experimental.reward_loop import RewardLoopManager
from verl.utils import tensordict_utils as tu
from verl.workers.rollout.llm_server import LLMServerManager

from fpa_verl.integration.failures import NOTHING_GENERATED, nothing_generated
from fpa_verl.integration.trainers.metering import POLL_INTERVAL_S
from fpa_verl.integration.trainers.synchronous import Synchronous
from fpa_verl.integration.trainers.transfer import PARTITION
from fpa_verl.integration.trainers.verdicts import returned_by_scorer
from fpa_verl.rollouts.fingerprint import local_model_dir
from fpa_verl.rollouts.problems import Problem

T = TypeVar("T")


@dataclass(frozen=True)
class Rollout:
    """One response of the rollout servers with the scorer's verdict.

    Attributes:
        place: of the problem among those that were submitted together.
        sample: from 0 to `rollout.n` - 1.
        log_probs: of the response tokens, under the model that sampled them.
        verdict: what the scorer returned beside the score; `returned_by_scorer` reads it.
        status: the scorer's.
        finish_reason: "stop", or "length" for a response that was cut off.
    """

    problem: Problem
    place: int
    sample: int
    prompt_ids: list[int]
    response_ids: list[int]
    log_probs: list[float]
    score: float
    verdict: dict[str, Any]
    status: str
    finish_reason: str


class Sampler(Synchronous):
    """Starts servers and reward loop, and asks them; nothing shares the devices with them."""

    # A problem that was answered: whether servers are alive shows where a batch brings nothing.
    answered: Problem | None = None

    def _setup(self) -> None:
        self.replay_buffer.poll_interval = POLL_INTERVAL_S
        self._init_tokenizer()
        self.stop_ids = _stop_ids(self.config.actor_rollout_ref.model.path, self.tokenizer.eos_token_id)
        self._prepare()
        self.llm_server_manager = LLMServerManager.create(config=self.config)
        self.reward_loop_manager = RewardLoopManager(config=self.config)
        self.teacher_model_manager = None

    def _prepare(self) -> None:
        """What the trainer needs before servers start."""
        raise NotImplementedError

    @property
    def devices(self) -> int:
        rollout = self.config.actor_rollout_ref.rollout
        return int(rollout.n_gpus_per_node * rollout.nnodes)

    def on_sample_end(self) -> None:
        """The servers keep their weights."""

    def on_step_end(self) -> None:
        """There are no steps."""

    def in_batches(
        self, missing: Callable[[], list[T]], work: Callable[[list[T]], int], *, total: int, desc: str, unit: str
    ) -> list[T]:
        """Do what is missing, a batch at a time; what failed to generate is tried once more.

        Args:
            missing: what is still to do.
            work: does a batch of it and says how much of that came.
            total: how much there is in all.
            desc: of the progress bar.
            unit: of its count.

        Returns:
            What is missing after that.
        """
        size, left = self.config.data.train_batch_size, missing()
        with tqdm(total=total, initial=total - len(left), desc=desc, unit=unit) as progress:
            for _ in range(2):
                for start in range(0, len(left), size):
                    progress.update(work(left[start : start + size]))
                left = missing()
        return left

    def roll_out(self, problems: Sequence[Problem], first_samples: Sequence[int] | None = None) -> list[Rollout]:
        """`rollout.n` responses to each problem, in their order; those that failed to generate are missing.

        Args:
            problems: may hold one several times.
            first_samples: which answer to its problem the first of each is; only a seeded agent loop looks at it.

        Raises:
            IntegrationError: none came, and none comes to another problem either.
        """
        found = self._ask(problems, first_samples or [0] * len(problems))
        if found:
            self.answered = found[0].problem
        elif self.answered is None or not self._ask([self.answered], [0]):
            raise nothing_generated()
        return found

    def _ask(self, problems: Sequence[Problem], first_samples: Sequence[int]) -> list[Rollout]:
        place_of = {str(uuid.uuid4()): place for place in range(len(problems))}
        self._submit_batch_to_rollout(_prompts(list(place_of), problems, first_samples))
        try:
            batch, _ = self.replay_buffer.sample(global_steps=0, partition_id=PARTITION, batch_size=len(problems))
        except RuntimeError as error:
            if NOTHING_GENERATED not in str(error):
                raise
            tq.kv_clear(keys=list(place_of), partition_id=PARTITION)
            return []
        fields = ["prompts", "responses", "rollout_log_probs", "rm_scores", "extra_fields"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        found = []
        for key, prompt, response, log_probs, scores, extra in zip(
            batch.keys, *(list(data[name]) for name in fields), strict=True
        ):
            uid, sample, _ = key.rsplit("_", 2)
            response_ids = response.tolist()
            verdict = getattr(extra, "data", extra)["reward_extra_info"]
            found.append(
                Rollout(
                    problem=problems[place_of[uid]],
                    place=place_of[uid],
                    sample=int(sample),
                    prompt_ids=prompt.tolist(),
                    response_ids=response_ids,
                    log_probs=log_probs.tolist(),
                    score=float(scores.sum()),
                    verdict=verdict,
                    status=returned_by_scorer(verdict, "status", self.config),
                    # The engine does not pass its reason on; an end-of-sequence token is the reason.
                    finish_reason="stop" if response_ids[-1] in self.stop_ids else "length",
                )
            )
        tq.kv_clear(keys=batch.keys, partition_id=batch.partition_id)
        return sorted(found, key=lambda rollout: (rollout.place, rollout.sample))


def _stop_ids(model: str, eos_token_id: int) -> set[int]:
    """The tokens that end a response: the tokenizer's, and those of the model's generation_config.json."""
    file = local_model_dir(model) / "generation_config.json"
    more = json.loads(file.read_text()).get("eos_token_id", []) if file.exists() else []
    return {eos_token_id, *(more if isinstance(more, list) else [more])}


def _object_array(values: list[Any]) -> np.ndarray:
    """A 1-D object array, whatever the values look like to numpy."""
    return np.fromiter(values, dtype=object, count=len(values))


def _prompts(uids: list[str], problems: Sequence[Problem], first_samples: Sequence[int]) -> Any:
    """A prompt batch as verl's dataloader would hand it to the agent loop."""
    batch = tu.get_tensordict(
        {
            "uid": _object_array(uids),
            "raw_prompt": _object_array([p.chat for p in problems]),
            "data_source": _object_array([p.data_source for p in problems]),
            "reward_model": _object_array([{"style": "rule", "ground_truth": p.ground_truth} for p in problems]),
            "extra_info": _object_array([{"problem_id": p.problem_id} for p in problems]),
            "index": _object_array([p.problem_id for p in problems]),
            "first_sample": _object_array(list(first_samples)),
            "dummy_tensor": torch.zeros(len(problems), 1, dtype=torch.uint8),
        }
    )
    tu.assign_non_tensor_data(batch, "global_steps", 0)
    return batch
