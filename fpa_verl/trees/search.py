"""Tree search over solution steps: PUCT without rollouts (AlphaMath, arXiv 2405.03553; SVPO, arXiv 2406.10858)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fpa_verl.bounds import bounded
from fpa_verl.rollouts.problems import Problem
from fpa_verl.trees.driver import Answer, Request, generator_of, seed_of
from fpa_verl.trees.settings import StepSettings
from fpa_verl.trees.tree import BY_ITSELF, OPEN, ROOT, UNSCORED, Tree, end_of


@dataclass(frozen=True)
class SearchSettings(StepSettings):
    """How a problem's trees are searched.

    Attributes:
        simulations: expansions of a tree.
        children: steps that are sampled at an expansion.
        c: weight of the prior against Q.
        trees: of a problem, each with draws of its own.
        drop_identical: of steps with the same text behind one prefix only the first becomes a child.
        stop_at_exhausted: a selection that ends where all is terminal ends the tree, as in the authors' code; else
            other branches go on.
    """

    group: ClassVar = "tree"
    simulations: int = bounded(40, at_least=1, whole=True)
    children: int = bounded(5, at_least=1, whole=True)
    c: float = bounded(1.25, at_least=0)
    trees: int = bounded(10, at_least=1, whole=True)
    drop_identical: bool = False
    stop_at_exhausted: bool = False


class TreeSearch:
    """The search of one tree; a `driver.Search`.

    A simulation selects a leaf from the root down, by the largest Q(s,a) + c p(a|s) sqrt(N(s)) / (1 + N(s,a)) among the
    children that are not exhausted; hangs the sampled steps under it, and backs up the outcome of each terminal one;
    then backs up V(leaf). Q of what was never visited is 0; ties are broken by a generator of the tree's own.

    Where the authors' code does otherwise, or is silent:
        1. A selection that ends in an exhausted node counts as no simulation and costs nothing; the next goes elsewhere
           (`stop_at_exhausted` brings theirs back).
        2. A terminal whose scorer failed backs up nothing, and is closed.
        3. Identical steps are children of their own, unless `drop_identical` is set.

    Args:
        settings: how it is searched.
        problem: that is solved.
        prompt_ids: as the model sees it.
        number: of the tree among the problem's.
    """

    def __init__(self, settings: SearchSettings, problem: Problem, prompt_ids: Sequence[int], number: int = 0) -> None:
        self._settings, self._problem = settings, problem
        self.tree = Tree.of(problem, number, tuple(prompt_ids))
        self._ties = generator_of(settings.seed, problem.problem_id, number)
        self._exhausted: set[int] = set()
        self._simulations = 0
        self._leaf = self._next_leaf()

    def wanted(self) -> list[Request]:
        if self._leaf is None:
            return []
        settings, response_ids = self._settings, self.tree.response_ids(self._leaf)
        return [
            Request(
                self._problem,
                self.tree.prompt_ids,
                response_ids,
                n=settings.children,
                max_tokens=min(settings.max_step_tokens, settings.max_response_tokens - len(response_ids)),
                temperature=settings.temperature,
                seed=seed_of(settings.seed, self.tree.problem_id, self.tree.number, self._leaf),
            )
        ]

    def take(self, answers: Sequence[Answer]) -> None:
        (answer,), leaf = answers, self._leaf
        assert leaf is not None
        self._expand(leaf, answer)
        self.tree.back_up(leaf, answer.value)
        self._simulations += 1
        self._leaf = self._next_leaf()

    def _next_leaf(self) -> int | None:
        """The node to expand; None where simulations or branches are used up."""
        if self._simulations == self._settings.simulations:
            return None
        while ROOT not in self._exhausted:
            leaf = self._select()
            if leaf is not None or self._settings.stop_at_exhausted:
                return leaf
        return None

    def _select(self) -> int | None:
        """From the root to a leaf; None where it meets a node below which all is exhausted, which is from then on."""
        node = ROOT
        while children := self.tree.nodes[node].children:
            candidates = [child for child in children if child not in self._exhausted]
            if not candidates:
                self._exhausted.add(node)
                return None
            node = self._best(node, candidates)
        return node

    def _best(self, parent: int, candidates: list[int]) -> int:
        reach = self._settings.c * math.sqrt(self.tree.nodes[parent].visits)
        scores = [self._score(child, reach) for child in candidates]
        highest = max(scores)
        best = [child for child, score in zip(candidates, scores, strict=True) if score == highest]
        return best[0] if len(best) == 1 else self._ties.choice(best)

    def _score(self, child: int, reach: float) -> float:
        node = self.tree.nodes[child]
        return node.q + reach * node.prior / (1 + node.visits)

    def _expand(self, leaf: int, answer: Answer) -> None:
        settings, tree = self._settings, self.tree
        before, depth = len(tree.response_ids(leaf)), tree.nodes[leaf].depth + 1
        tree.nodes[leaf].sampled_tokens = sum(len(step.token_ids) for step in answer.steps)
        texts: set[str] = set()
        for step, status in zip(answer.steps, answer.statuses, strict=True):
            if settings.drop_identical and step.text in texts:
                continue
            texts.add(step.text)
            end = end_of(
                step,
                depth,
                before + len(step.token_ids),
                deepest=settings.depth,
                max_response_tokens=settings.max_response_tokens,
            )
            if end in BY_ITSELF and status is None:
                raise ValueError("a solution ended and nobody scored it: a tree search needs a judge")
            self._hang(tree.add(leaf, step, end, status if end in (OPEN, *BY_ITSELF) else UNSCORED))

    def _hang(self, child: int) -> None:
        """Close a child that is terminal, and back up its outcome."""
        node = self.tree.nodes[child]
        if node.end == OPEN:
            return
        self._exhausted.add(child)
        if node.outcome is not None:
            self.tree.back_up(child, node.outcome)
