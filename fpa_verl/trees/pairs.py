"""Step pairs: of two steps behind one prefix the better and the worse by the search's Q.

How SVPO (arXiv 2406.10858) makes its pairs is not known in full; every rule here is a choice of ours with a key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from fpa_verl.bounds import bounded, one_of
from fpa_verl.trees.driver import generator_of
from fpa_verl.trees.settings import Settings, cap
from fpa_verl.trees.tree import RIGHT, ROOT, WRONG, Tree


@dataclass(frozen=True)
class PairRules(Settings):
    """Which steps make a pair. Both are children of one parent, and say different things.

    Attributes:
        visits: least N of either; what was never visited has no Q.
        gap: least Q_w - Q_l; equal Q gives no pair whatever it is.
        outcome_filter: the preferred step has Q > 0 and a right solution below (or is one), the other Q < 0, or wrong
            solutions below and no right one.
        choice: of a parent's children the best against the worst, against the second best, against any other at random,
            or all pairs there are. Of equal Q the more visited counts as better, or as worse at the other end, then the
            earlier.
        parents: all, or those on the way from the root by the largest Q, as MCTS-DPO (arXiv 2405.00451) has it.
        distinct: of pairs of the same tokens, which several trees of a problem have, the one of the largest gap; and of
            two that contradict each other likewise one.
        per_problem: pairs of a problem at most, those of the largest gaps.
        per_depth: pairs of a problem at each depth at most, likewise.
    """

    group: ClassVar = "pairs"
    visits: int = bounded(1, at_least=1, whole=True)
    gap: float = bounded(0.5, at_least=0, at_most=2)
    outcome_filter: bool = True
    choice: str = one_of("best_worst", "best_second", "best_random", "all")
    parents: str = one_of("all", "best_path")
    per_problem: int | None = cap(4)
    per_depth: int | None = cap(None)
    distinct: bool = True


@dataclass(frozen=True)
class StepPair:
    """A preferred and a dispreferred step behind one prefix.

    Attributes:
        parent, chosen, rejected: numbers of nodes of the tree.
        depth: that of the two steps.
        prefix_ids: tokens of the prompt and the steps before.
        chosen_ids, rejected_ids: the steps' own.
        chosen_q, rejected_q, chosen_visits, rejected_visits: Q and N of either.
    """

    problem_id: str
    tree: int
    parent: int
    chosen: int
    rejected: int
    depth: int
    prefix_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    chosen_text: str
    rejected_text: str
    chosen_q: float
    rejected_q: float
    chosen_visits: int
    rejected_visits: int

    @property
    def gap(self) -> float:
        return self.chosen_q - self.rejected_q


def step_pairs(trees: Iterable[Tree], rules: PairRules) -> list[StepPair]:
    """The pairs of one problem's trees, largest gaps first; of equal ones the earlier tree and node."""
    found = [pair for tree in trees for pair in _of_tree(tree, rules)]
    found.sort(key=lambda pair: (-pair.gap, pair.tree, pair.parent, pair.chosen, pair.rejected))
    found = _distinct(found) if rules.distinct else found
    at_depth: Counter[int] = Counter()
    kept = []
    for pair in found:
        at_depth[pair.depth] += 1
        if rules.per_depth is None or at_depth[pair.depth] <= rules.per_depth:
            kept.append(pair)
    return kept[: rules.per_problem]


def _distinct(pairs: Iterable[StepPair]) -> list[StepPair]:
    """The first of those of the same two steps behind the same tokens, whichever was preferred."""
    first: dict[tuple[tuple[int, ...], frozenset[tuple[int, ...]]], StepPair] = {}
    for pair in pairs:
        first.setdefault((pair.prefix_ids, frozenset((pair.chosen_ids, pair.rejected_ids))), pair)
    return list(first.values())


def _of_tree(tree: Tree, rules: PairRules) -> Iterator[StepPair]:
    sides = _Sides(tree, rules)
    parents = range(len(tree.nodes)) if rules.parents == "all" else _best_path(tree)
    for parent in parents:
        for chosen, rejected in _chosen_from(tree, parent, sides, rules.choice):
            pair = _pair(tree, chosen, rejected)
            if pair.gap >= rules.gap and pair.gap > 0:
                yield pair


def _best_path(tree: Tree) -> Iterator[int]:
    """The root, and from each node the visited child of the largest Q."""
    node: int | None = ROOT
    while node is not None:
        yield node
        visited = [child for child in tree.nodes[node].children if tree.nodes[child].visits]
        node = max(visited, key=_better(tree), default=None)


def _better(tree: Tree) -> Callable[[int], tuple[float, int, int]]:
    return lambda node: (tree.nodes[node].q, tree.nodes[node].visits, -node)


def _worse(tree: Tree) -> Callable[[int], tuple[float, int, int]]:
    return lambda node: (-tree.nodes[node].q, tree.nodes[node].visits, -node)


class _Sides:
    """Which nodes of a tree may be preferred, and which dispreferred."""

    def __init__(self, tree: Tree, rules: PairRules) -> None:
        self._tree, self._rules = tree, rules
        self._right, self._wrong = tree.leads_to(RIGHT), tree.leads_to(WRONG)

    def may_win(self, node: int) -> bool:
        filtered = self._tree.nodes[node].q > 0 and self._right[node]
        return self._is_visited(node) and (filtered or not self._rules.outcome_filter)

    def may_lose(self, node: int) -> bool:
        filtered = self._tree.nodes[node].q < 0 or (self._wrong[node] and not self._right[node])
        return self._is_visited(node) and (filtered or not self._rules.outcome_filter)

    def _is_visited(self, node: int) -> bool:
        return self._tree.nodes[node].visits >= self._rules.visits


def _chosen_from(tree: Tree, parent: int, sides: _Sides, choice: str) -> Iterator[tuple[int, int]]:
    """Preferred and dispreferred children of a parent, before the gap is looked at."""
    children = tree.nodes[parent].children
    winners = sorted(filter(sides.may_win, children), key=_better(tree), reverse=True)
    for winner in winners if choice == "all" else winners[:1]:
        losers = [
            child
            for child in children
            if child != winner and sides.may_lose(child) and tree.nodes[child].text != tree.nodes[winner].text
        ]
        match choice:
            case "all":
                yield from ((winner, loser) for loser in losers)
            case _ if not losers:
                return
            case "best_worst":
                yield winner, max(losers, key=_worse(tree))
            case "best_second":
                yield winner, max(losers, key=_better(tree))
            case "best_random":
                yield winner, generator_of(tree.problem_id, tree.number, parent).choice(losers)


def _pair(tree: Tree, chosen: int, rejected: int) -> StepPair:
    better, worse = tree.nodes[chosen], tree.nodes[rejected]
    return StepPair(
        problem_id=tree.problem_id,
        tree=tree.number,
        parent=better.parent,
        chosen=chosen,
        rejected=rejected,
        depth=better.depth,
        prefix_ids=tree.prompt_ids + tree.response_ids(better.parent),
        chosen_ids=better.token_ids,
        rejected_ids=worse.token_ids,
        chosen_text=better.text,
        rejected_text=worse.text,
        chosen_q=better.q,
        rejected_q=worse.q,
        chosen_visits=better.visits,
        rejected_visits=worse.visits,
    )
