"""Asking the rollout servers of a trainer for responses to problems, and the reward loop for what they are worth."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
import transfer_queue as tq
from tqdm import tqdm
from verl.utils import tensordict_utils as tu

from fpa_verl.integration.safety.failures import NOTHING_GENERATED, nothing_generated
from fpa_verl.integration.servers.seeded import SEEDED_SINGLE_TURN
from fpa_verl.integration.servers.transfer import PARTITION
from fpa_verl.integration.servers.verdicts import returned_by_scorer
from fpa_verl.integration.trainers.base import Synchronous
from fpa_verl.rollouts.fingerprint import local_model_dir
from fpa_verl.rollouts.problems import Problem

T = TypeVar("T")
# verl keeps what it validates with apart from what it trains on.
VALIDATION_PARTITION = "val"


@dataclass(frozen=True)
class Rollout:
    """One response of the rollout servers with the scorer's verdict.

    Attributes:
        place: of the problem among those that were submitted together.
        sample: from 0 to `n` - 1.
        log_probs: of the response tokens, under the model that sampled them; empty in an evaluation.
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


@dataclass(frozen=True)
class Question:
    """How problems are put to the servers.

    Attributes:
        n: responses to each.
        validate: sample as `rollout.val_kwargs` says, not as `rollout` does.
        seeded: each response is drawn with a seed of its own.
    """

    n: int
    validate: bool = False
    seeded: bool = False

    @property
    def partition(self) -> str:
        return VALIDATION_PARTITION if self.validate else PARTITION


class Asks(Synchronous):
    """Mixin of trainers: responses to any problems, in batches, those that failed once more."""

    # A problem that was answered: whether servers are alive shows where a batch brings nothing.
    answered: Problem | None = None

    @cached_property
    def stop_ids(self) -> set[int]:
        """The tokens that end a response: the tokenizer's, and those of the model's generation_config.json."""
        file = local_model_dir(self.config.actor_rollout_ref.model.path) / "generation_config.json"
        more = json.loads(file.read_text()).get("eos_token_id", []) if file.exists() else []
        return {self.tokenizer.eos_token_id, *(more if isinstance(more, list) else [more])}

    def in_batches(
        self,
        missing: Callable[[], list[T]],
        work: Callable[[list[T]], int],
        *,
        size: int,
        total: int,
        desc: str,
        unit: str,
    ) -> list[T]:
        """Do what is missing, a batch at a time; what failed to generate is tried once more.

        Args:
            missing: what is still to do.
            work: does a batch of it and says how much of that came.
            size: of a batch.
            total: how much there is in all.
            desc: of the progress bar, which is left out where all is one batch.
            unit: of its count.

        Returns:
            What is missing after that.
        """
        left = missing()
        with tqdm(total=total, initial=total - len(left), desc=desc, unit=unit, disable=total <= size) as progress:
            for _ in range(2):
                for start in range(0, len(left), size):
                    progress.update(work(left[start : start + size]))
                left = missing()
        return left

    def roll_out(
        self, problems: Sequence[Problem], question: Question, first_samples: Sequence[int] | None = None
    ) -> list[Rollout]:
        """`question.n` responses to each problem, in their order; those that failed to generate are missing.

        Args:
            problems: may hold one several times.
            question: how they are put.
            first_samples: which answer to its problem the first of each is; only a seeded agent loop looks at it.

        Raises:
            IntegrationError: none came, and none comes to another problem either.
        """
        found = self._ask(problems, question, first_samples or [0] * len(problems))
        if found:
            self.answered = found[0].problem
        elif self.answered is None or not self._ask([self.answered], question, [0]):
            raise nothing_generated()
        return found

    def _ask(self, problems: Sequence[Problem], question: Question, first_samples: Sequence[int]) -> list[Rollout]:
        place_of = {str(uuid.uuid4()): place for place in range(len(problems))}
        partition = question.partition
        self._submit(_prompts(list(place_of), problems, question, first_samples, self.global_steps), partition)
        try:
            batch, _ = self.replay_buffer.sample(
                global_steps=self.global_steps, partition_id=partition, batch_size=len(problems)
            )
        except RuntimeError as error:
            if NOTHING_GENERATED not in str(error):
                raise
            tq.kv_clear(keys=list(place_of), partition_id=partition)
            return []
        if not batch.keys:
            # What verl makes of the same in a validation.
            return []
        keys = _last_outputs(batch.keys)
        fields = ["prompts", "responses", "rm_scores", "extra_fields"]
        wanted = fields if question.validate else [*fields, "rollout_log_probs"]
        data = tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=wanted)
        log_probs = [[]] * len(keys) if question.validate else [one.tolist() for one in data["rollout_log_probs"]]
        found = []
        for key, sampled, prompt, response, scores, extra in zip(
            keys, log_probs, *(list(data[name]) for name in fields), strict=True
        ):
            uid, sample, _ = key.rsplit("_", 2)
            verdict = getattr(extra, "data", extra)["reward_extra_info"]
            response_ids = response.tolist()
            found.append(
                Rollout(
                    problem=problems[place_of[uid]],
                    place=place_of[uid],
                    sample=int(sample),
                    prompt_ids=prompt.tolist(),
                    response_ids=response_ids,
                    log_probs=sampled,
                    score=float(scores.sum()),
                    verdict=verdict,
                    status=returned_by_scorer(verdict, "status", self.config),
                    # The engine does not pass its reason on; an end-of-sequence token is the reason.
                    finish_reason="stop" if response_ids[-1] in self.stop_ids else "length",
                )
            )
        tq.kv_clear(keys=batch.keys, partition_id=partition)
        return sorted(found, key=lambda rollout: (rollout.place, rollout.sample))

    def _submit(self, prompts: Any, partition: str) -> None:
        """Register prompts where verl's replay buffer looks for them, and hand them to the agent loops."""
        tag = {"is_prompt": True, "status": "pending", "global_steps": self.global_steps}
        tq.kv_batch_put(keys=list(prompts["uid"]), partition_id=partition, tags=[dict(tag) for _ in prompts["uid"]])
        self.agent_loop_manager.generate_sequences(prompts)


def _last_outputs(keys: Sequence[str]) -> list[str]:
    """Of every session the last output, which the score is of: an agent loop may leave several."""
    last: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: int(key.rsplit("_", 1)[1])):
        last[key.rsplit("_", 1)[0]] = key
    return list(last.values())


def _object_array(values: list[Any]) -> np.ndarray:
    """A 1-D object array, whatever the values look like to numpy."""
    return np.fromiter(values, dtype=object, count=len(values))


def _prompts(
    uids: list[str], problems: Sequence[Problem], question: Question, first_samples: Sequence[int], step: int
) -> Any:
    """A prompt batch as verl's dataloader would hand it to the agent loop."""
    columns: dict[str, list[Any]] = {
        "uid": uids,
        "raw_prompt": [p.chat for p in problems],
        "data_source": [p.data_source for p in problems],
        "reward_model": [{"style": "rule", "ground_truth": p.ground_truth} for p in problems],
        "extra_info": [{**p.extra_info, "problem_id": p.problem_id} for p in problems],
        "index": [p.problem_id for p in problems],
        "first_sample": list(first_samples),
        # How many sessions the agent loop starts, whatever the configuration says.
        "__rollout_n__": [question.n] * len(problems),
        **({"agent_name": [SEEDED_SINGLE_TURN] * len(problems)} if question.seeded else {}),
    }
    batch = tu.get_tensordict(
        {
            **{name: _object_array(values) for name, values in columns.items()},
            "dummy_tensor": torch.zeros(len(problems), 1, dtype=torch.uint8),
        }
    )
    tu.assign_non_tensor_data(batch, "global_steps", step)
    tu.assign_non_tensor_data(batch, "validate", question.validate)
    return batch
