"""Searches that wait for nobody but their own answers: what they ask, who answers, and many of them in flight.

A search is a state machine. It says what it wants continued (`wanted`) and takes the answers (`take`); it knows neither
servers nor time, so that its result does not hang on what else is in flight.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.rollouts.problems import Problem
from fpa_verl.trees.tree import Step


@dataclass(frozen=True)
class Request:
    """A prefix to be continued by one step, several times.

    Attributes:
        prompt_ids: token ids of the problem.
        response_ids: token ids of the steps so far.
        n: steps that are wanted.
        max_tokens: of the longest one.
        seed: of these draws; the same for the same place of the same search.
        wants_step_values: V is asked for behind each step, and not of the prefix.
    """

    problem: Problem
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    n: int
    max_tokens: int
    temperature: float
    seed: int
    wants_step_values: bool = False

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        return self.prompt_ids + self.response_ids


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        steps: `Request.n` of them.
        statuses: of each step the scorer's where it ends the solution, else None.
        value: V of the prefix; 0 where there is no value function.
        step_values: V behind each step, where that was asked for.
    """

    steps: tuple[Step, ...]
    statuses: tuple[str | None, ...]
    value: float = 0.0
    step_values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for value in (self.value, *self.step_values):
            if not -1 <= value <= 1:
                raise ValueError(f"a value function says what lies between -1 and 1, not {value}")


class Search(Protocol):
    """A state machine: `TreeSearch` or `BeamSearch`."""

    def wanted(self) -> list[Request]:
        """What is to be continued next; nothing where the search is done."""

    def take(self, answers: Sequence[Answer]) -> None:
        """Go on with an answer to each of `wanted`, in its order."""


class Sampler(Protocol):
    """Who writes steps."""

    async def steps(self, request: Request) -> Sequence[Step]:
        """`request.n` steps behind its prefix; fewer where a server gave one up."""


class Judge(Protocol):
    """Who scores solutions that ended by themselves."""

    async def status(self, problem: Problem, response_ids: Sequence[int]) -> str:
        """One of `reward.verdicts.STATUSES`."""


class Values(Protocol):
    """A value function."""

    async def value(self, prefix_ids: Sequence[int]) -> float:
        """V of prompt and steps, between -1 and 1."""


S = TypeVar("S", bound=Search)


def seed_of(*parts: Any) -> int:
    """A seed of 48 bits for what the parts name."""
    return int(digest(*parts)[:12], 16)


def generator_of(*parts: Any) -> random.Random:
    """A generator for what the parts name."""
    return random.Random(seed_of(*parts))


async def advance(search: Search, sampler: Sampler, judge: Judge | None = None, values: Values | None = None) -> bool:
    """Bring a search to its end.

    Args:
        search: which may be under way.
        sampler: writes steps.
        judge: scores what ends by itself; None where no outcome is to be known, as in decoding.
        values: V; 0 everywhere without it.

    Returns:
        Whether it got there; not where a step was missing.
    """
    while requests := search.wanted():
        answers = await asyncio.gather(*(_answer(request, sampler, judge, values) for request in requests))
        whole = [answer for answer in answers if answer is not None]
        if len(whole) < len(requests):
            return False
        search.take(whole)
    return True


async def _answer(request: Request, sampler: Sampler, judge: Judge | None, values: Values | None) -> Answer | None:
    asks_prefix = values is not None and not request.wants_step_values
    steps, value = await asyncio.gather(
        sampler.steps(request), _value(values, request.prefix_ids) if asks_prefix else _nothing()
    )
    if len(steps) < request.n:
        return None
    statuses = await asyncio.gather(*(_status(judge, request, step) for step in steps))
    step_values: list[float] = []
    if request.wants_step_values:
        step_values = await asyncio.gather(*(_value(values, request.prefix_ids + step.token_ids) for step in steps))
    return Answer(tuple(steps), tuple(statuses), value, tuple(step_values))


async def _nothing() -> float:
    return 0.0


async def _value(values: Values | None, prefix_ids: Sequence[int]) -> float:
    return 0.0 if values is None else await values.value(prefix_ids)


async def _status(judge: Judge | None, request: Request, step: Step) -> str | None:
    if judge is None or not step.ends_solution:
        return None
    return await judge.status(request.problem, request.response_ids + step.token_ids)


async def in_flight(
    searches: Iterable[S],
    sampler: Sampler,
    judge: Judge | None = None,
    values: Values | None = None,
    *,
    at_once: int,
) -> AsyncGenerator[S, None]:
    """Searches as they end, so many of them under way at any time; those that missed a step are left out.

    None waits for another, which is what keeps servers full: in the place of one that has ended the next begins.

    Raises:
        Exception: what sampler, judge or value function raised; the others are cancelled.
    """
    waiting = iter(searches)

    async def to_its_end(search: S) -> S | None:
        return search if await advance(search, sampler, judge, values) else None

    def begin(count: int) -> list[asyncio.Task[S | None]]:
        return [asyncio.ensure_future(to_its_end(search)) for search in islice(waiting, count)]

    running = begin(at_once)
    try:
        while running:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # In the order of their beginnings: the same answers at the same times give the same files.
            ended = [task for task in running if task in done]
            running = [task for task in running if task not in done] + begin(len(ended))
            for task in ended:
                if task.exception() is None and (search := task.result()) is not None:
                    yield search
            for task in ended:
                # The others of this turn are paid for, and were handed out.
                task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
