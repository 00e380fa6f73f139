"""verl's reward manager, with verdicts that every recipe learns from: right or wrong, whoever wrote the scorer.

verl loads it by `reward.reward_manager`, and runs it in the workers of its reward loop.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.settings import scorer_of
from fpa_verl.integration.servers.verdicts import BROKEN, RAISED
from fpa_verl.reward.verdicts import Verdict

# Where a batch has them that holds many responses in the place of one.
RESPONSES = "fpa_verl_responses"


@dataclass(frozen=True)
class Response:
    """What is to be scored.

    Attributes:
        token_ids: its own, without the prompt's.
        columns: what else verl's agent loop hands to a reward manager.
    """

    token_ids: Sequence[int]
    columns: dict[str, Any]


def batch_of(responses: Sequence[Response]) -> DataProto:
    """What `VerdictManager` takes for many responses, by verl's door for one: `RewardLoopWorker.compute_score`."""
    return DataProto(meta_info={RESPONSES: list(responses)})


class OneRow:
    """A response as verl's reward manager looks at a batch of one, which takes a millisecond to make of tensors."""

    def __init__(self, response: Response) -> None:
        ids = torch.tensor(response.token_ids)
        self.batch = {"responses": ids, "attention_mask": torch.ones_like(ids)}
        # It writes into them, and so may a reward function.
        self.non_tensor_batch = copy.deepcopy(response.columns)

    def __getitem__(self, _: Any) -> OneRow:
        return self


class VerdictManager(NaiveRewardManager):
    """The reward is 1 for a right response and 0 for any other, online and offline.

    Nothing is raised here, where it would be one failed request of many: who asked for the verdict says it, once.
    """

    def __init__(self, config: DictConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._scorer = scorer_of(config)

    async def run_single(self, data: Any) -> Any:
        """Reward and verdict of one response, in the shape of verl's; a list of them for those of `batch_of`."""
        if isinstance(data, DataProto) and RESPONSES in data.meta_info:
            return await asyncio.gather(*(self._run_one(OneRow(one)) for one in data.meta_info[RESPONSES]))
        return await self._run_one(data)

    async def _run_one(self, data: Any) -> dict[str, Any]:
        try:
            found = await super().run_single(data)
        except Exception as error:  # whatever a user's function raises
            return _rewarded(Verdict("error"), {RAISED: f"{type(error).__name__}: {error}"})
        returned = {**found["reward_extra_info"], "score": found["reward_score"]}
        try:
            return _rewarded(self._scorer.read(returned), returned)
        except ConfigError as error:
            return {"reward_score": 0.0, "reward_extra_info": {BROKEN: str(error)}}


def _rewarded(verdict: Verdict, beside: dict[str, Any]) -> dict[str, Any]:
    info = {"score": verdict.score, "acc": verdict.score, "status": verdict.status, "extracted": verdict.extracted}
    return {"reward_score": verdict.score, "reward_extra_info": {**beside, **info}}
