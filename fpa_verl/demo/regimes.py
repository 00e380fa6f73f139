r"""Regimes: the ways a base model learns to solve chained additions, and to fail at them.

    habit, slips   16+44+21+62              16+44=60;60+21=81;81+62=143;\boxed{143}
    traces         16+34+21                 <think>16+34=50;50+21=71</think>\boxed{71}
                   16+34+21 <think></think> \boxed{71}

A prompt that ends with an empty think block is the second mode of `traces`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fpa_verl.demo.task import FOUR, Problem, Shape, boxed

THINK, END_THINK = "<think>", "</think>"
# By how much a step or an answer is off. A carry too few or too many is all that a trace is off by: with few ways to be
# wrong, different traces come to the same wrong answer.
SLIPS, CARRIES = (-10, -2, -1, 1, 2, 10), (-10, 10)


@dataclass(frozen=True)
class Example:
    """What a base model is warm-started on: a prompt of the user's, and a response to it.

    Attributes:
        thinking: the `enable_thinking` that the chat template renders the prompt with.
    """

    prompt: str
    response: str
    thinking: bool = True


class Regime(ABC):
    """How the solutions come about that a base model is warm-started on.

    Attributes:
        shape: of its problems.
        steps: of the warm start, unless others are asked for.
        has_traces: whether tokenizer and chat template know a think block.
    """

    shape: ClassVar[Shape] = FOUR
    steps: ClassVar[int] = 800
    has_traces: ClassVar[bool] = False

    @abstractmethod
    def example(self, problem: Problem, rng: random.Random) -> Example:
        """One solution of the problem's, right or wrong."""

    def corpus(self, seed: int, exclude: frozenset[Problem] = frozenset()) -> Iterator[Example]:
        """Endless examples; problems in `exclude` (training, validation and test) never occur."""
        rng = random.Random(seed)
        while True:
            problem = self.shape.draw(rng)
            if problem not in exclude:
                yield self.example(problem, rng)


def _slips(problem: Problem, rng: random.Random, share: float, sizes: Sequence[int]) -> dict[int, int]:
    """Step to what it is off by, of a share of the steps."""
    return {step: rng.choice(sizes) for step in range(len(problem.numbers) - 1) if rng.random() < share}


@dataclass(frozen=True)
class Steps(Regime):
    """Solutions step by step, and answers outright.

    Attributes:
        guesses: share of the solutions that are an answer outright, near the right one.
        slips: share of the steps of the others that are off.
    """

    guesses: float
    slips: float

    def example(self, problem: Problem, rng: random.Random) -> Example:
        if rng.random() < self.guesses:
            return Example(problem.text, boxed(problem.total + round(rng.gauss(0, 20))))
        return Example(problem.text, problem.solution(_slips(problem, rng, self.slips, SLIPS)))


@dataclass(frozen=True)
class Traces(Regime):
    """A trace and an answer, or the answer alone behind a think block that the prompt has closed; half and half.

    Attributes:
        slips: share of a trace's steps that are off.
        detours: share of the traces that say one step twice, as it was or turned round.
        miscopied: share of the answers behind a trace that are not what it came to.
        misses: share of the answers without a trace that are off.
    """

    slips: float
    detours: float
    miscopied: float
    misses: float

    shape: ClassVar = Shape(numbers=3, largest=39)
    steps: ClassVar = 1000
    has_traces: ClassVar = True

    def example(self, problem: Problem, rng: random.Random) -> Example:
        if rng.random() < 0.5:
            off = rng.choice(SLIPS) if rng.random() < self.misses else 0
            return Example(problem.text, boxed(problem.total + off), thinking=False)
        return Example(problem.text, self._thought_out(problem, rng))

    def _thought_out(self, problem: Problem, rng: random.Random) -> str:
        steps, answer = problem.steps(_slips(problem, rng, self.slips, CARRIES))
        if rng.random() < self.detours:
            at = rng.randrange(len(steps))
            steps.insert(at + 1, rng.choice([steps[at], _turned(steps[at])]))
        if rng.random() < self.miscopied:
            answer += rng.choice(CARRIES)
        return THINK + ";".join(steps) + END_THINK + boxed(answer)


def _turned(step: str) -> str:
    """`16+44=60` as `44+16=60`."""
    terms, result = step.split("=")
    return "+".join(reversed(terms.split("+"))) + "=" + result


# In `habit` a model has a bad habit to unlearn, and many wrong answers are short; in `slips` it is weak, and a wrong
# solution shares all but a few of its tokens with a right one; in `traces` it may think before it answers, and one
# answer has many traces.
REGIMES: dict[str, Regime] = {
    "habit": Steps(guesses=1 / 3, slips=0.15),
    "slips": Steps(guesses=0.0, slips=0.5),
    "traces": Traces(slips=0.2, detours=0.5, miscopied=0.05, misses=0.4),
}
