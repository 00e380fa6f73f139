r"""Chained addition: problems, worked solutions, and the three ways the base model learns to fail.

    problem   16+44+21+62
    solution  16+44=60;60+21=81;81+62=143;\boxed{143}

Wrong solutions share most of their tokens with right ones, which is what Off-RL suffers from.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
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

    def solution(self, slip_at: int | None = None, slip: int = 0) -> str:
        """Step-by-step solution; with `slip_at`, that step is off by `slip` and the rest follow it."""
        total, steps = self.numbers[0], []
        for i, number in enumerate(self.numbers[1:]):
            result = total + number + (slip if i == slip_at else 0)
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
class Mix:
    """What a base model is warm-started on: shares of solutions, which add up to 1.

    Attributes:
        right: step by step, without a mistake.
        slips: the same with one wrong step, and what follows from it.
        guesses: an answer outright, near the right one.
    """

    right: float
    slips: float
    guesses: float


# Two regimes. In the first a model has a bad habit to unlearn, and many wrong answers are short; in the second it is
# weak, and a wrong solution shares all but a few of its tokens with a right one.
REGIMES = {"habit": Mix(0.42, 0.25, 0.33), "slips": Mix(0.05, 0.95, 0.0)}


def corpus(seed: int, exclude: frozenset[Problem], mix: Mix = REGIMES["habit"]) -> Iterator[tuple[str, str]]:
    """Endless (prompt, solution) pairs; problems in `exclude` (training, validation and test) never occur."""
    rng = random.Random(seed)
    while True:
        problem = Problem(tuple(rng.randint(SMALLEST, LARGEST) for _ in range(NUMBERS)))
        if problem in exclude:
            continue
        kind = rng.random()
        if kind < mix.right:
            yield problem.text, problem.solution()
        elif kind < mix.right + mix.slips:
            slip = rng.choice([-10, -2, -1, 1, 2, 10])
            yield problem.text, problem.solution(rng.randrange(NUMBERS - 1), slip)
        else:
            guess = sum(problem.numbers) + round(rng.gauss(0, 20))
            yield problem.text, rf"\boxed{{{guess}}}"
