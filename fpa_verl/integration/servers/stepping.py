"""Steps of solutions from verl's rollout servers, and solutions scored by its reward loop, each awaited alone.

Searches wait for nothing but their own answers; what many of them wait for at the same time travels together. The
processes are those of `direct.DirectServers`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig
from ray.exceptions import RayActorError, RayTaskError

from fpa_verl.errors import ConfigError
from fpa_verl.integration.safety.said_once import REQUEST_FAILED, SaidOnce
from fpa_verl.integration.servers.awaiting import Background, bring
from fpa_verl.integration.servers.batches import Answer, Generated, Request
from fpa_verl.integration.servers.client import SamplingRequest
from fpa_verl.integration.servers.direct import LOOK_EVERY_S, TOGETHER, DirectServers, response_to, why_agent_loops
from fpa_verl.integration.servers.endings import Endings
from fpa_verl.integration.servers.reward_manager import Response, batch_of
from fpa_verl.integration.servers.verdicts import RAISED, note_failures, returned_by_scorer
from fpa_verl.reward.verdicts import Verdict
from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.prompts import stopping, stops_of
from fpa_verl.rollouts.schema import CUT_OFF, ENDED
from fpa_verl.trees import Step
from fpa_verl.trees.driver import Request as StepRequest
from fpa_verl.trees.driver import seed_of
from fpa_verl.trees.tree import DELIMITED

logger = logging.getLogger(__name__)
logger.addFilter(SaidOnce())

# Verdicts after which a scorer that did nothing but raise ends the run.
TRIED = 64


def require_single_turn(config: DictConfig, processor: Any = None) -> None:
    """Refuse a recipe whose servers cannot be asked for steps.

    Args:
        config: the recipe.
        processor: what the model reads pictures with, if it does.

    Raises:
        ConfigError: why not, and what to change.
    """
    if why := why_agent_loops(config, processor):
        raise ConfigError(
            f"recipe={config.recipe_name} asks plain single-turn vLLM servers for steps, and here verl's agent loops "
            f"would ask ({why}): leave that as recipes/base/common.yaml has it"
        )


class Draws:
    """Tokens behind prefixes, each with sampling parameters of its own; asked for one by one.

    Args:
        servers: who samples.
        sampling: parameters that all have in common, as verl's `generate` takes them.
        background: where the calls of servers are waited for.

    Attributes:
        tokens: how many were sampled.
    """

    def __init__(self, servers: DirectServers, sampling: Mapping[str, Any], background: Background) -> None:
        self._of, self._sampling, self._background = servers, dict(sampling), background
        self._name, self._numbers = uuid.uuid4().hex, itertools.count()
        self._waiting: deque[Request] = deque()
        self._answers: dict[int, asyncio.Future[Answer | None]] = {}
        # By the place of a server: what it has of ours; and whose answers are being waited for.
        self._held = [0] * len(servers.servers)
        self._collecting: set[int] = set()
        self._is_called = False
        self.tokens = 0

    async def draw(self, prefix_ids: Sequence[int], sampling: Mapping[str, Any]) -> Answer | None:
        """What a server wrote behind a prefix; None where it gave the request up.

        Args:
            prefix_ids: as the model is to see them.
            sampling: parameters of this draw, over those of all.

        Raises:
            Exception: a server, or whoever else the run waits for, has died.
        """
        number, answer = next(self._numbers), self._background.awaited()
        self._answers[number] = answer
        self._waiting.append(Request(number, prefix_ids, sampling))
        if not self._is_called:
            self._is_called = True
            self._background.start(self._hand_over_soon())
        try:
            return await answer
        finally:
            self._answers.pop(number, None)

    def end(self) -> None:
        """Nothing more is wanted, of what is still in flight either."""
        for server in self._of.servers:
            server.finish.remote(self._name)

    async def _hand_over_soon(self) -> None:
        # By then all that is asked for in this turn of the loop is there.
        self._is_called = False
        self._hand_over()

    def _hand_over(self) -> None:
        """Requests to the server that has the fewest of ours, until each has as many as it is to have."""
        share = max(TOGETHER, -(-len(self._waiting) // len(self._held)))
        while self._waiting:
            place = min(range(len(self._held)), key=self._held.__getitem__)
            room = min(self._of.room - self._held[place], share, len(self._waiting))
            if room < 1:
                return
            requests = [self._waiting.popleft() for _ in range(room)]
            self._held[place] += len(requests)
            self._background.start(self._submit(place, requests))
            if place not in self._collecting:
                self._collecting.add(place)
                self._background.start(self._collect(place))

    async def _submit(self, place: int, requests: list[Request]) -> None:
        await self._of.servers[place].submit.remote(self._name, requests, self._sampling)

    async def _collect(self, place: int) -> None:
        while self._held[place]:
            found: Generated = await self._of.servers[place].collect.remote(self._name)
            self._held[place] -= len(found.numbers)
            self.tokens += len(found.token_ids)
            self._hand_over()
            for answer in found:
                if answer.number in self._answers:
                    bring(self._answers[answer.number], None if answer.extra is None else answer)
        self._collecting.discard(place)


class Scores:
    """Verdicts on responses, asked for one by one.

    Args:
        servers: whose reward loop it is.
        background: where its workers are waited for.
    """

    def __init__(self, servers: DirectServers, background: Background) -> None:
        self._of, self._background = servers, background
        self._waiting: list[tuple[Response, asyncio.Future[dict[str, Any]]]] = []
        self._scored_by = [0] * len(servers.scorers)

    async def verdict(self, response: Response) -> dict[str, Any]:
        """What the reward manager returned beside the score."""
        verdict = self._background.awaited()
        self._waiting.append((response, verdict))
        if len(self._waiting) == 1:
            self._background.start(self._have_scored())
        return await verdict

    async def _have_scored(self) -> None:
        """All that is asked for by now, among all workers alike."""
        waiting, self._waiting = self._waiting, []
        share = max(TOGETHER, -(-len(waiting) // len(self._scored_by)))
        for start in range(0, len(waiting), share):
            part = waiting[start : start + share]
            place = min(range(len(self._scored_by)), key=self._scored_by.__getitem__)
            self._scored_by[place] += len(part)
            self._background.start(self._score(place, part))

    async def _score(self, place: int, part: list[tuple[Response, asyncio.Future[dict[str, Any]]]]) -> None:
        try:
            batch = batch_of([response for response, _ in part])
            verdicts = [one["reward_extra_info"] for one in await self._of.scorers[place].compute_score.remote(batch)]
        except RayActorError:
            # Who died is the watchdog's to say.
            raise
        except RayTaskError as error:
            logger.error(REQUEST_FAILED, exc_info=error)
            verdicts = [{"status": Verdict("error").status} for _ in part]
        finally:
            self._scored_by[place] -= len(part)
        for (_, future), verdict in zip(part, verdicts, strict=True):
            bring(future, verdict)


class Stepping:
    """A `trees.driver.Sampler` and `Judge`, to be entered in the loop that searches.

    Args:
        servers: who samples and scores.
        delimiter: the text that ends a step, and is part of it.

    Attributes:
        background: where whatever the search waits for is fetched.
    """

    def __init__(self, servers: DirectServers, delimiter: str) -> None:
        config, self._tokenizer = servers.config, servers.prompts.tokenizer
        self._of, self._delimiter, self._stops = servers, delimiter, stops_of(config)
        self._endings = Endings(str(config.actor_rollout_ref.model.path), self._tokenizer)
        self._longest = int(config.actor_rollout_ref.rollout.max_model_len)
        self.background = Background()
        ends = stopping([*self._stops, delimiter], self._endings.unnamed)
        sampling = {**servers.sampling(SamplingRequest(n=1)), **ends, "logprobs": True}
        self._draws, self._scores = Draws(servers, sampling, self.background), Scores(servers, self.background)
        self._verdicts: list[dict[str, Any]] = []

    @property
    def tokens(self) -> int:
        """How many were sampled so far."""
        return self._draws.tokens

    async def __aenter__(self) -> Stepping:
        self._of.weights.require_whole()
        self.background.start(self._look_after_servers())
        return self

    async def __aexit__(self, failed: object, *_: object) -> None:
        await self.background.end()
        self._draws.end()
        if not failed:
            note_failures(self._verdicts, self._of.config)

    async def _look_after_servers(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._of.require_alive()

    async def steps(self, request: StepRequest) -> list[Step]:
        """`request.n` steps behind its prefix, each drawn with a seed of its own; those given up are missing.

        What the model wrote is kept as it is: a token that has the delimiter in it may go on behind that.
        """
        prefix = request.prefix_ids
        limit = min(request.max_tokens, self._longest - len(prefix))
        own = {"temperature": request.temperature, "max_tokens": limit}
        draws = [self._draws.draw(prefix, {**own, "seed": seed_of(request.seed, place)}) for place in range(request.n)]
        return [self._step(one, limit) for one in await asyncio.gather(*draws) if one is not None]

    def _step(self, answer: Answer, limit: int) -> Step:
        assert answer.log_probs is not None
        ids = answer.token_ids.tolist()
        return Step(
            tuple(ids),
            tuple(answer.log_probs.tolist()),
            str(self._tokenizer.decode(ids, skip_special_tokens=True)),
            self._why_it_ended(ids, limit),
        )

    def _why_it_ended(self, ids: list[int], limit: int) -> str:
        why = self._endings.why(ids, self._stops)
        if why != CUT_OFF:
            return why
        if self._endings.at(ids, self._delimiter):
            return DELIMITED
        # A server may know other ends than those that the model's files name.
        return ENDED if len(ids) < limit else CUT_OFF

    async def status(self, problem: Problem, response_ids: Sequence[int]) -> str:
        """The scorer's status of a solution.

        Raises:
            ConfigError: the scorer does not keep its contract, or did nothing but raise.
        """
        return str(returned_by_scorer(await self.verdict(problem, response_ids), "status", self._of.config))

    async def verdict(self, problem: Problem, response_ids: Sequence[int]) -> dict[str, Any]:
        """All that the scorer says of a solution.

        Raises:
            ConfigError: it did nothing but raise.
        """
        verdict = await self._scores.verdict(response_to(problem, list(response_ids)))
        self._verdicts.append({RAISED: verdict.get(RAISED)})
        if len(self._verdicts) == TRIED and all(one[RAISED] for one in self._verdicts):
            note_failures(self._verdicts, self._of.config)
        return verdict
