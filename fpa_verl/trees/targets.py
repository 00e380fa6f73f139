"""Value targets: what a value head is to say behind each step that the search has visited."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fpa_verl.trees.tree import ROOT, Tree


@dataclass(frozen=True)
class ValueTarget:
    """One prefix and its value.

    Attributes:
        node: whose step is the last.
        token_ids: prompt and steps, up to and with that one.
        step_end: place of its last token in them, where V is read.
        q: V(s_{t+1}) := Q(s_t, a_t), for steps have no reward of their own.
        visits: N, of which q is the mean.
    """

    problem_id: str
    tree: int
    node: int
    token_ids: tuple[int, ...]
    step_end: int
    q: float
    visits: int


def value_targets(tree: Tree, visits: int = 1) -> Iterator[ValueTarget]:
    """Those of all steps with so many visits; an unvisited step's Q of 0 is no estimate.

    Raises:
        ValueError: fewer than one visit is asked for.
    """
    if visits < 1:
        raise ValueError(f"visits={visits}: a step that was never visited has no Q; at least 1")
    for number, node in enumerate(tree.nodes):
        if number != ROOT and node.visits >= visits:
            ids = tree.prompt_ids + tree.response_ids(number)
            yield ValueTarget(tree.problem_id, tree.number, number, ids, len(ids) - 1, node.q, node.visits)


def step_values(tree: Tree, node: int) -> tuple[list[int], list[float]]:
    """Where the visited steps up to and with a node's end, in prompt and response together, and their Q."""
    ends, values, last = [], [], len(tree.prompt_ids) - 1
    for step in tree.steps_to(node):
        last += len(step.token_ids)
        if step.visits:
            ends.append(last)
            values.append(step.q)
    return ends, values
