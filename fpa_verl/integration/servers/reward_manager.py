"""verl's reward manager, with verdicts that every recipe learns from: right or wrong, whoever wrote the scorer.

verl loads it by `reward.reward_manager`, and runs it in the workers of its reward loop.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.settings import scorer_of
from fpa_verl.integration.servers.verdicts import BROKEN, RAISED
from fpa_verl.reward.verdicts import Verdict


class VerdictManager(NaiveRewardManager):
    """The reward is 1 for a right response and 0 for any other, online and offline.

    Nothing is raised here, where it would be one failed request of many: who asked for the verdict says it, once.
    """

    def __init__(self, config: DictConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._scorer = scorer_of(config)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Reward and verdict of one response, in the shape of verl's."""
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
