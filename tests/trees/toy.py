"""Trees that can be listed in full, and who samples, scores and values their steps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.schema import CUT_OFF, ENDED
from fpa_verl.trees import SearchSettings, Step, Tree, TreeSearch
from fpa_verl.trees.driver import Request, advance
from fpa_verl.trees.tree import DELIMITED, ROOT

PROMPT = (9,)


@dataclass(frozen=True)
class Toy:
    """Steps by name, each a token. What is not a key of `below` ends the solution.

    Attributes:
        below: of a step, those that may follow, with their probabilities; "" is the root.
        right: names of the solutions that are right.
    """

    below: Mapping[str, Mapping[str, float]]
    right: frozenset[str]
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", [name for children in self.below.values() for name in children])

    def token(self, name: str) -> int:
        return 10 + self.names.index(name)

    def name(self, response_ids: Sequence[int]) -> str:
        """The step that a prefix of steps ends in."""
        return self.names[response_ids[-1] - 10] if response_ids else ""

    def step(self, name: str, probability: float) -> Step:
        # As an engine has it, in single precision.
        log_prob = float(np.float32(np.log(probability)))
        return Step((self.token(name),), (log_prob,), name, DELIMITED if name in self.below else ENDED)

    def true_value(self, name: str = "") -> float:
        """Expected outcome under the policy."""
        if name not in self.below:
            return 1.0 if name in self.right else -1.0
        return sum(probability * self.true_value(child) for child, probability in self.below[name].items())

    def best_value(self, name: str = "") -> float:
        """Outcome of the best solution that can be reached."""
        if name not in self.below:
            return 1.0 if name in self.right else -1.0
        return max(map(self.best_value, self.below[name]))


# Small enough to work out by hand what a search counts.
NOTES = Toy(
    below={
        "": {"A": 0.6, "B": 0.4},
        "A": {"A1": 0.5, "A2": 0.5},
        "A1": {"A11": 0.7, "A12": 0.3},
        "B": {"B1": 0.8, "B2": 0.2},
        "B2": {"B21": 0.5, "B22": 0.5},
    },
    right=frozenset({"A11", "B21"}),
)


@st.composite
def toys(draw, most: int = 3, deepest: int = 4) -> Toy:
    """Any tree of some depth; steps are named by their way."""
    below, right = {}, set()

    def grow(name: str, depth: int) -> None:
        count = draw(st.integers(1, most))
        weights = [draw(st.integers(1, 9)) for _ in range(count)]
        below[name] = {f"{name}{place}": weight / sum(weights) for place, weight in enumerate(weights)}
        for child in below[name]:
            if depth < deepest and draw(st.booleans()):
                grow(child, depth + 1)
            elif draw(st.booleans()):
                right.add(child)

    grow("", 1)
    return Toy(below, frozenset(right))


TWO = SearchSettings(children=2, simulations=100)


def problem(name: str = "p0") -> Problem:
    return Problem.from_text(name, "a problem", "3", "toy")


class Complete:
    """Gives all steps that there are, however many are asked for; a wait before each answer mixes their order."""

    def __init__(self, toy: Toy, waits: random.Random | None = None) -> None:
        self.toy, self._waits, self.asked = toy, waits, 0

    async def steps(self, request: Request) -> list[Step]:
        self.asked += 1
        await shuffled(self._waits)
        found = [self.toy.step(*one) for one in self.toy.below[self.toy.name(request.response_ids)].items()]
        return found[: request.n] + found[:1] * (request.n - len(found))


class Drawn:
    """Draws steps by their probabilities, by the request's seed."""

    def __init__(self, toy: Toy, waits: random.Random | None = None) -> None:
        self.toy, self._waits = toy, waits

    async def steps(self, request: Request) -> list[Step]:
        await shuffled(self._waits)
        children = self.toy.below[self.toy.name(request.response_ids)]
        names = random.Random(request.seed).choices(list(children), list(children.values()), k=request.n)
        return [self.toy.step(name, children[name]) for name in names]


class Endless:
    """Steps that lead nowhere, of two tokens; of no end at all where `cut_off`."""

    def __init__(self, *, cut_off: bool = False) -> None:
        self.finish_reason, self.limits = CUT_OFF if cut_off else DELIMITED, []

    async def steps(self, request: Request) -> list[Step]:
        self.limits.append(request.max_tokens)
        return [Step((1, 2), (-0.5, -0.5), f"{place}", self.finish_reason) for place in range(request.n)]


async def shuffled(waits: random.Random | None) -> None:
    for _ in range(waits.randrange(4) if waits else 0):
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Marks:
    """Scores solutions, those of `failed` not."""

    toy: Toy
    failed: frozenset[str] = frozenset()

    async def status(self, problem: Problem, response_ids: Sequence[int]) -> str:
        name = self.toy.name(response_ids)
        return "timeout" if name in self.failed else "right" if name in self.toy.right else "wrong"


@dataclass(frozen=True)
class Known:
    """A value function by the names of steps."""

    toy: Toy
    of: Mapping[str, float]

    async def value(self, prefix_ids: Sequence[int]) -> float:
        return self.of[self.toy.name(prefix_ids[len(PROMPT) :])]


def searched(toy: Toy, settings: SearchSettings, sampler=None, judge=None, values=None, number: int = 0) -> Tree:
    """One tree, searched to its end."""
    search = TreeSearch(settings, problem(), PROMPT, number)
    assert asyncio.run(advance(search, sampler or Complete(toy), judge or Marks(toy), values))
    return search.tree


def counts(tree: Tree) -> dict[str, tuple[int, float]]:
    """(N, W) of every node by its name, the root's under ""."""
    return {"" if number == ROOT else node.text: (node.visits, node.total) for number, node in enumerate(tree.nodes)}


def number_of(tree: Tree, name: str) -> int:
    return next(number for number, node in enumerate(tree.nodes) if node.text == name)
