r"""Chained additions small enough to list: every step is right, or a carry too many or too few; or a guess outright.

    16+44+21     16+44=60; 60+21=81; \boxed{81}     \boxed{81}, a guess

A policy is three softmaxes, one a place, over the ways to go on there, the same for all problems; a solution's
probability, and how often a policy is right, are exact.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fpa_verl.demo.task import Shape, boxed, distinct_problems
from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.schema import ENDED
from fpa_verl.trees import BeamSettings, SearchSettings, Step, Tree, TreeSearch, in_flight
from fpa_verl.trees.driver import Request
from fpa_verl.trees.tree import DELIMITED

PLACES = 3
# What the sum is off by behind each way to go on, and how many of the first place's ways are steps and not guesses.
OFF = ((0, 10, -10, 0, 10), (0, 10, -10), (0, 10))
STEPS_FIRST = 3
BASE = ((0.40, 0.15, 0.10, 0.10, 0.25), (0.70, 0.15, 0.15), (0.85, 0.15))
PROMPT = (99,)
# Choices by their places.
Ways = tuple[int, ...]


def token(place: int, choice: int) -> int:
    return 10 * place + choice


def ways_of(token_ids: Sequence[int]) -> Ways:
    return tuple(one % 10 for one in token_ids)


def is_over(ways: Ways) -> bool:
    return len(ways) == PLACES or bool(ways and ways[0] >= STEPS_FIRST)


def off_by(ways: Ways) -> int:
    return sum(OFF[place][choice] for place, choice in enumerate(ways))


def states(ways: Ways = ()) -> Iterator[Ways]:
    """Every prefix there is, the root among them."""
    yield ways
    if not is_over(ways):
        for choice in range(len(OFF[len(ways)])):
            yield from states((*ways, choice))


def text(numbers: tuple[int, ...], ways: Ways) -> str:
    """The last step of a prefix, in digits."""
    before = numbers[0] + off_by(ways[:-1]) + sum(numbers[1 : len(ways)])
    if is_over(ways):
        return boxed(sum(numbers) + off_by(ways))
    step = numbers[len(ways)]
    return f"{before}+{step}={before + step + OFF[len(ways) - 1][ways[-1]]};"


Tables = list[torch.Tensor]


def base_tables() -> Tables:
    """log-probs of the ways at every place."""
    return [torch.tensor(row, dtype=torch.float64).log() for row in BASE]


def success(choice_of: Callable[[Ways], Sequence[float]], ways: Ways = ()) -> float:
    """How often the answer is right, where `choice_of` has the probability of every way behind a prefix."""
    if is_over(ways):
        return float(off_by(ways) == 0)
    return sum(
        probability * success(choice_of, (*ways, choice))
        for choice, probability in enumerate(choice_of(ways))
        if probability
    )


def by_policy(tables: Tables) -> Callable[[Ways], Sequence[float]]:
    return lambda ways: tables[len(ways)].exp().tolist()


def by_beam(tables: Tables, value: Callable[[Ways], float], draws: int) -> Callable[[Ways], Sequence[float]]:
    """B1 = 1, B2 = draws: what has the highest V of so many draws is kept, of equal V the first."""

    def choice_of(ways: Ways) -> list[float]:
        chances = tables[len(ways)].exp().tolist()
        values = [round(value((*ways, choice)), 12) for choice in range(len(chances))]
        found = []
        for chance, own in zip(chances, values, strict=True):
            level = sum(c for c, v in zip(chances, values, strict=True) if v == own)
            below = sum(c for c, v in zip(chances, values, strict=True) if v < own)
            found.append(((below + level) ** draws - below**draws) * chance / level)
        return found

    return choice_of


@dataclass(frozen=True)
class Chain:
    """Samples from the base policy, and scores."""

    numbers: dict[str, tuple[int, ...]]

    async def steps(self, request: Request) -> list[Step]:
        before, table = ways_of(request.response_ids), BASE[len(request.response_ids)]
        choices = random.Random(request.seed).choices(range(len(table)), table, k=request.n)
        return [self._step(request.problem, (*before, choice), table[choice]) for choice in choices]

    def _step(self, problem: Problem, ways: Ways, probability: float) -> Step:
        return Step(
            (token(len(ways) - 1, ways[-1]),),
            (float(np.float32(np.log(probability))),),
            text(self.numbers[problem.problem_id], ways),
            ENDED if is_over(ways) else DELIMITED,
        )

    async def status(self, problem: Problem, response_ids: Sequence[int]) -> str:
        return "right" if off_by(ways_of(response_ids)) == 0 else "wrong"


SEARCH = SearchSettings(children=4, simulations=8, trees=2, drop_identical=True)
BEAM = BeamSettings(width=1, samples=3)


async def forest(problems: int) -> dict[str, list[Tree]]:
    """The trees of so many problems."""
    drawn = distinct_problems(problems, seed=0, shape=Shape(numbers=PLACES))
    chain = Chain({f"p{place}": one.numbers for place, one in enumerate(drawn)})
    posed = [Problem.from_text(f"p{place}", one.text, one.answer, "chained") for place, one in enumerate(drawn)]
    searches = [TreeSearch(SEARCH, one, PROMPT, number) for one in posed for number in range(SEARCH.trees)]
    found: dict[str, list[Tree]] = {one.problem_id: [] for one in posed}
    async for search in in_flight(searches, chain, chain, at_once=16):
        found[search.tree.problem_id].append(search.tree)
    return {name: sorted(trees, key=lambda tree: tree.number) for name, trees in found.items()}
