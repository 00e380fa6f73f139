"""One answer to one prompt, as the recipe has it: what runs in verl's agent loop workers."""

from __future__ import annotations

import hashlib
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from fpa_verl.integration.servers.client import SEEDED_SINGLE_TURN, SINGLE_TURN
from fpa_verl.rollouts.ends import unnamed_ends
from fpa_verl.rollouts.prompts import stopping, stops_of


def draw_seed(seed: int, data_source: str, problem_id: str, sample: int) -> int:
    """Seed of one answer, in [0, 2^31): the same wherever and whenever it is asked for."""
    text = "\x00".join([str(seed), data_source, problem_id, str(sample)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@register(SINGLE_TURN)
class SingleTurn(SingleTurnAgentLoop):
    """verl's single turn, which ends at the texts of `prompt.stop` as well, and where the model's turn does.

    The tokens of such an end stay in the response: the model sampled them, and they are what ends it.
    """

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> AgentLoopOutput:
        ends = stopping(
            stops_of(self.config), unnamed_ends(str(self.config.actor_rollout_ref.model.path), self.tokenizer)
        )
        return await super().run({**sampling_params, **ends}, priority, **kwargs)


@register(SEEDED_SINGLE_TURN)
class SeededSingleTurn(SingleTurn):
    """The same with a seed for every answer, so that its draw depends on nothing but the question.

    The prompt batch says in `first_sample` which answer to its problem the first session of a prompt gives.
    vLLM draws such requests one by one, which costs some of its speed.
    """

    async def run(self, sampling_params: dict[str, Any], priority: int = 0, **kwargs: Any) -> AgentLoopOutput:
        sample = int(kwargs["first_sample"]) + int(kwargs["session_id"])
        seed = draw_seed(self.rollout_config.seed, kwargs["data_source"], kwargs["index"], sample)
        return await super().run({**sampling_params, "seed": seed}, priority, **kwargs)
