"""Whole solutions of a tree as trajectories of a rollout dataset: other recipes train on the same search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from fpa_verl.reward.verdicts import MODEL_STATUSES
from fpa_verl.rollouts.schema import CUT_OFF, FINISH_REASONS, TRAIN, Trajectory
from fpa_verl.trees.search import SearchSettings
from fpa_verl.trees.settings import Settings, cap
from fpa_verl.trees.targets import step_values
from fpa_verl.trees.tree import OPEN, Tree


@dataclass(frozen=True)
class SolutionRules(Settings):
    """Which solutions of a problem are kept, in the order of its trees and their nodes.

    Attributes:
        right, wrong: so many at most; 4 and 4 are AlphaMath's (arXiv 2405.03553).
        distinct: of solutions with the same tokens only the first.
    """

    group: ClassVar = "solutions"
    right: int | None = cap(4)
    wrong: int | None = cap(4)
    distinct: bool = True


def solutions(
    trees: Iterable[Tree],
    rules: SolutionRules,
    search: SearchSettings,
    *,
    top_p: float = 1.0,
    top_k: int = -1,
    split: str = TRAIN,
) -> list[Trajectory]:
    """The solutions of one problem's trees, one group; those that the scorer could not tell among them.

    They share steps and were looked for: as answers of the policy they are no independent draws.

    Args:
        trees: of one problem.
        rules: which are kept.
        search: how they were sampled.
        top_p: likewise.
        top_k: likewise; -1: no limit.
        split: that of the problem.
    """
    found: list[Trajectory] = []
    for tree, node in _kept(trees, rules):
        steps, last = tree.steps_to(node), tree.nodes[node]
        ends, values = step_values(tree, node)
        assert last.status is not None
        found.append(
            Trajectory(
                problem_id=tree.problem_id,
                group=0,
                sample=len(found),
                split=split,
                data_source=tree.data_source,
                ground_truth=tree.ground_truth,
                prompt_ids=list(tree.prompt_ids),
                response_ids=list(tree.response_ids(node)),
                behaviour_log_probs=[value for step in steps for value in step.log_probs],
                score=float(last.status == "right"),
                status=last.status,
                finish_reason=last.end if last.end in FINISH_REASONS else CUT_OFF,
                temperature=search.temperature,
                top_p=top_p,
                top_k=top_k,
                max_response_tokens=search.max_response_tokens,
                step_ends=ends,
                step_values=values,
            )
        )
    return found


def _kept(trees: Iterable[Tree], rules: SolutionRules) -> Iterator[tuple[Tree, int]]:
    """Tree and node of the solutions that the rules keep."""
    seen: set[tuple[int, ...]] = set()
    counts: Counter[bool] = Counter()
    limits = {True: rules.right, False: rules.wrong}
    for tree, node in _ends(trees):
        ids, status = tree.response_ids(node), tree.nodes[node].status
        if rules.distinct and ids in seen:
            continue
        seen.add(ids)
        is_right, limit = status == "right", limits[status == "right"]
        if status in MODEL_STATUSES:
            counts[is_right] += 1
            if limit is not None and counts[is_right] > limit:
                continue
        yield tree, node


def _ends(trees: Iterable[Tree]) -> Iterator[tuple[Tree, int]]:
    return ((tree, number) for tree in trees for number, node in enumerate(tree.nodes) if node.end != OPEN)
