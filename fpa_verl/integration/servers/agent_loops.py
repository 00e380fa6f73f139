"""verl's agent loops and reward loop as something that one asks and gets answers from.

verl puts prompts and outputs into TransferQueue under keys, and its replay buffer says when a batch is whole. All of
that is here; nothing else of the plugin that generates knows it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transfer_queue as tq
from verl.experimental.agent_loop import AgentLoopManager
from verl.utils import tensordict_utils as tu

from fpa_verl.integration.safety.failures import NOTHING_GENERATED
from fpa_verl.integration.servers.client import SEEDED_SINGLE_TURN, Arrived, Output, SamplingRequest
from fpa_verl.integration.servers.transfer import PARTITION, VALIDATION_PARTITION
from fpa_verl.integration.servers.weights import ServerWeights
from fpa_verl.rollouts.problems import Problem, scored_as

if TYPE_CHECKING:
    # Importing any of verl's trainers registers ours, which import this module.
    from fpa_verl.integration.servers.replay import WatchedReplayBuffer


@dataclass(frozen=True)
class AgentLoops:
    """The `Servers` of a `RolloutClient`, by verl's doors.

    Attributes:
        manager: hands prompts to the agent loop workers.
        replay_buffer: waits for their outputs.
        weights: what the servers hold.
    """

    manager: AgentLoopManager
    replay_buffer: WatchedReplayBuffer
    weights: ServerWeights

    def answer(
        self, problems: Sequence[Problem], request: SamplingRequest, first_samples: Sequence[int], arrived: Arrived
    ) -> list[Output]:
        """Sampled and scored by verl; what failed is missing."""
        self.weights.require_whole()
        place_of = {str(uuid.uuid4()): place for place in range(len(problems))}
        partition = VALIDATION_PARTITION if request.validate else PARTITION
        self._submit(prompt_batch(list(place_of), problems, request, first_samples), partition, request.step)
        try:
            with self.replay_buffer.telling(arrived):
                batch, _ = self.replay_buffer.sample(
                    global_steps=request.step, partition_id=partition, batch_size=len(problems)
                )
        except RuntimeError as error:
            if NOTHING_GENERATED not in str(error):
                raise
            tq.kv_clear(keys=list(place_of), partition_id=partition)
            return []
        if not batch.keys:
            # What verl makes of the same in a validation.
            return []
        found = _read(last_outputs(batch.keys), partition, place_of, with_log_probs=not request.validate)
        tq.kv_clear(keys=batch.keys, partition_id=partition)
        return found

    def _submit(self, prompts: Any, partition: str, step: int) -> None:
        """Register prompts where verl's replay buffer looks for them, and hand them to the agent loops."""
        tag = {"is_prompt": True, "status": "pending", "global_steps": step}
        tq.kv_batch_put(keys=list(prompts["uid"]), partition_id=partition, tags=[dict(tag) for _ in prompts["uid"]])
        self.manager.generate_sequences(prompts)

    def load(self, model: str) -> None:
        """Hold another model's weights from here on."""
        self.weights.load(model)


def _read(keys: list[str], partition: str, place_of: dict[str, int], *, with_log_probs: bool) -> list[Output]:
    fields = ["prompts", "responses", "rm_scores", "extra_fields"]
    wanted = [*fields, "rollout_log_probs"] if with_log_probs else fields
    data = tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=wanted)
    log_probs = [one.tolist() for one in data["rollout_log_probs"]] if with_log_probs else [[]] * len(keys)
    found = []
    for key, sampled, prompt, response, scores, extra in zip(
        keys, log_probs, *(list(data[name]) for name in fields), strict=True
    ):
        uid, sample, _ = key.rsplit("_", 2)
        beside = dict(getattr(extra, "data", extra))
        found.append(
            Output(
                place=place_of[uid],
                sample=int(sample),
                prompt_ids=prompt.tolist(),
                response_ids=response.tolist(),
                log_probs=sampled,
                score=float(scores.sum()),
                verdict=beside.pop("reward_extra_info"),
                beside=beside,
            )
        )
    return found


def last_outputs(keys: Sequence[str]) -> list[str]:
    """The last output of every session, which the score is of: an agent loop may leave several."""
    last: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: int(key.rsplit("_", 1)[1])):
        last[key.rsplit("_", 1)[0]] = key
    return list(last.values())


def _object_array(values: list[Any]) -> np.ndarray:
    """A 1-D object array, whatever the values look like to numpy."""
    return np.fromiter(values, dtype=object, count=len(values))


def prompt_batch(
    uids: list[str], problems: Sequence[Problem], request: SamplingRequest, first_samples: Sequence[int]
) -> Any:
    """A prompt batch as verl's dataloader would hand it to the agent loop."""
    columns: dict[str, list[Any]] = {
        "uid": uids,
        "raw_prompt": [p.chat for p in problems],
        "data_source": [scored_as(p) for p in problems],
        "reward_model": [{"style": "rule", "ground_truth": p.ground_truth} for p in problems],
        "extra_info": [{**p.extra_info, "problem_id": p.problem_id} for p in problems],
        "index": [p.problem_id for p in problems],
        "first_sample": list(first_samples),
        # How many sessions the agent loop starts, whatever the configuration says.
        "__rollout_n__": [request.n] * len(problems),
        **({"agent_name": [SEEDED_SINGLE_TURN] * len(problems)} if request.seeded else {}),
    }
    batch = tu.get_tensordict(
        {
            **{name: _object_array(values) for name, values in columns.items()},
            "dummy_tensor": torch.zeros(len(problems), 1, dtype=torch.uint8),
        }
    )
    tu.assign_non_tensor_data(batch, "global_steps", request.step)
    tu.assign_non_tensor_data(batch, "validate", request.validate)
    return batch
