"""Answers by a beam search over solution steps, from the same servers and the same scorer as sampled ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from omegaconf import DictConfig
from ray.actor import ActorHandle
from transformers import PreTrainedTokenizerBase

from fpa_verl.integration.config.beams import beam_settings
from fpa_verl.integration.servers.client import GENERATED, Arrived, Output, Rollout, RolloutClient, SamplingRequest
from fpa_verl.integration.servers.direct import DirectServers
from fpa_verl.integration.servers.stepping import Stepping
from fpa_verl.integration.servers.values import ValueClient
from fpa_verl.reward.verdicts import Verdict
from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.schema import CUT_OFF
from fpa_verl.trees.beam import BeamSearch
from fpa_verl.trees.driver import in_flight


class BeamClient(RolloutClient):
    """A client whose answers are each the solution of the highest V that a search over steps has found.

    Args:
        servers: who samples and scores.
        values: who says what prefixes are worth; none: nobody, in greedy decoding.
        config: the recipe.
        tokenizer: the model's.
        last_answered: a problem that was answered before.
    """

    def __init__(
        self,
        servers: DirectServers,
        values: Sequence[ActorHandle],
        config: DictConfig,
        tokenizer: PreTrainedTokenizerBase,
        last_answered: Problem | None = None,
    ) -> None:
        super().__init__(servers, config, tokenizer, last_answered)
        self._of, self._values, self._settings = servers, values, beam_settings(config)

    def _answers(
        self, problems: Sequence[Problem], request: SamplingRequest, first_samples: Sequence[int], arrived: Arrived
    ) -> list[Rollout]:
        """One to each problem; `first_samples` say which of its answers it is, and are its seed."""
        found = asyncio.run(self._search(problems, first_samples, arrived))
        return sorted(found, key=lambda rollout: rollout.place)

    async def _search(
        self, problems: Sequence[Problem], first_samples: Sequence[int], arrived: Arrived
    ) -> list[Rollout]:
        searches = [self._begun(*one) for one in zip(problems, first_samples, strict=True)]
        places = {id(search): place for place, search in enumerate(searches)}
        rollouts: list[Rollout] = []
        async with Stepping(self._of, self._config.beam.delimiter) as stepping:
            values = ValueClient(self._values, stepping.background) if self._values else None
            async for search in in_flight(searches, stepping, values=values, at_once=len(searches)):
                place = places[id(search)]
                rollouts.append(await self._best(search, stepping, place, first_samples[place]))
                arrived(len(rollouts))
        return rollouts

    def _begun(self, problem: Problem, sample: int) -> BeamSearch:
        return BeamSearch(self._settings, problem, self._of.prompts.ids(problem), sample)

    async def _best(self, search: BeamSearch, stepping: Stepping, place: int, sample: int) -> Rollout:
        """The search's answer, scored; one that came to none is no answer, and not asked about."""
        best, beside = search.best, {GENERATED: search.generated_tokens}
        ids = [] if best is None else list(best.response_ids)
        verdict = vars(Verdict("no_answer")) if best is None else await stepping.verdict(search.problem, ids)
        output = Output(place, sample, list(search.prompt_ids), ids, [], 0.0, verdict, beside)
        if best is not None:
            return self._rollout(output, search.problem)
        mode = self._traces.mode(output.prompt_ids)
        return Rollout(
            **vars(output),
            problem=search.problem,
            status=verdict["status"],
            finish_reason=CUT_OFF,
            mode=mode,
            trace_tokens=0,
        )
