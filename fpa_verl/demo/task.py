r"""Chained addition: problems, and the steps that solve them.

    problem   16+44+21+62
    steps     16+44=60, 60+21=81, 81+62=143
    solution  16+44=60;60+21=81;81+62=143;\boxed{143}

Wrong solutions share most of their tokens with right ones, which is what Off-RL suffers from. `regimes.py` has how a
base model comes to write wrong ones.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

DATA_SOURCE = "chained_addition"
SMALLEST = 10


def boxed(answer: int) -> str:
    return rf"\boxed{{{answer}}}"


@dataclass(frozen=True)
class Problem:
    numbers: tuple[int, ...]

    @property
    def text(self) -> str:
        return "+".join(map(str, self.numbers))

    @property
    def total(self) -> int:
        return sum(self.numbers)

    @property
    def answer(self) -> str:
        return str(self.total)

    def steps(self, slips: Mapping[int, int] | None = None) -> tuple[list[str], int]:
        """The steps, and where they end; one that slips is off by so much, and what comes after follows it."""
        total, steps = self.numbers[0], []
        for i, number in enumerate(self.numbers[1:]):
            result = total + number + (slips or {}).get(i, 0)
            steps.append(f"{total}+{number}={result}")
            total = result
        return steps, total

    def solution(self, slips: Mapping[int, int] | None = None) -> str:
        """Step by step, and the answer."""
        steps, total = self.steps(slips)
        return ";".join([*steps, boxed(total)])


@dataclass(frozen=True)
class Shape:
    """How many numbers a problem adds up, from `SMALLEST` to `largest`."""

    numbers: int = 4
    largest: int = 99

    def draw(self, rng: random.Random) -> Problem:
        return Problem(tuple(rng.randint(SMALLEST, self.largest) for _ in range(self.numbers)))


FOUR = Shape()


def distinct_problems(
    count: int, seed: int, exclude: frozenset[Problem] = frozenset(), shape: Shape = FOUR
) -> list[Problem]:
    """`count` different problems, none of them in `exclude`, the same ones for the same seed."""
    rng, chosen = random.Random(seed), dict.fromkeys(exclude)
    while len(chosen) < count + len(exclude):
        chosen.setdefault(shape.draw(rng))
    return list(chosen)[len(exclude) :]
