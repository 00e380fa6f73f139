r"""Chained addition: problems, worked solutions, and the three ways the base model learns to fail.

    problem   16+44+21+62
    solution  16+44=60;60+21=81;81+62=143;\boxed{143}

Wrong solutions share most of their tokens with right ones, which is what Off-RL suffers from.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

DATA_SOURCE = "chained_addition"
NUMBERS = 4
SMALLEST, LARGEST = 10, 99


@dataclass(frozen=True)
class Problem:
    numbers: tuple[int, ...]

    @property
    def text(self) -> str:
        return "+".join(map(str, self.numbers))

    @property
    def answer(self) -> str:
        return str(sum(self.numbers))

    def solution(self, slips: Mapping[int, int] | None = None) -> str:
        """Step by step; a step that slips is off by so much, and what comes after follows it."""
        total, steps = self.numbers[0], []
        for i, number in enumerate(self.numbers[1:]):
            result = total + number + (slips or {}).get(i, 0)
            steps.append(f"{total}+{number}={result}")
            total = result
        return ";".join([*steps, rf"\boxed{{{total}}}"])


def distinct_problems(count: int, seed: int, exclude: frozenset[Problem] = frozenset()) -> list[Problem]:
    """`count` different problems, none of them in `exclude`, the same ones for the same seed."""
    rng, chosen = random.Random(seed), dict.fromkeys(exclude)
    while len(chosen) < count + len(exclude):
        chosen.setdefault(Problem(tuple(rng.randint(SMALLEST, LARGEST) for _ in range(NUMBERS))))
    return list(chosen)[len(exclude) :]


@dataclass(frozen=True)
class Regime:
    """What a base model is warm-started on.

    Attributes:
        guesses: share of the solutions that are an answer outright, near the right one.
        slips: share of the steps of the others that are off.
    """

    guesses: float
    slips: float


# In the first a model has a bad habit to unlearn, and many wrong answers are short; in the second it is weak, and a
# wrong solution shares all but a few of its tokens with a right one.
REGIMES = {"habit": Regime(guesses=1 / 3, slips=0.15), "slips": Regime(guesses=0.0, slips=0.5)}
SLIPS = (-10, -2, -1, 1, 2, 10)


def corpus(seed: int, exclude: frozenset[Problem], regime: Regime = REGIMES["habit"]) -> Iterator[tuple[str, str]]:
    """Endless (prompt, solution) pairs; problems in `exclude` (training, validation and test) never occur."""
    rng = random.Random(seed)
    while True:
        problem = Problem(tuple(rng.randint(SMALLEST, LARGEST) for _ in range(NUMBERS)))
        if problem in exclude:
            continue
        if rng.random() < regime.guesses:
            yield problem.text, rf"\boxed{{{sum(problem.numbers) + round(rng.gauss(0, 20))}}}"
        else:
            slips = {step: rng.choice(SLIPS) for step in range(NUMBERS - 1) if rng.random() < regime.slips}
            yield problem.text, problem.solution(slips)
