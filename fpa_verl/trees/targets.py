"""Value targets: what a value head is to say behind each step that the search has visited."""

from __future__ import annotations

from fpa_verl.trees.tree import Tree


def step_values(tree: Tree, node: int) -> tuple[list[int], list[float]]:
    """Where the visited steps up to and with a node's end, in prompt and response together, and their Q.

    V(s_{t+1}) := Q(s_t, a_t), for steps have no reward of their own. An unvisited step's Q of 0 is no estimate.
    """
    ends, values, last = [], [], len(tree.prompt_ids) - 1
    for step in tree.steps_to(node):
        last += len(step.token_ids)
        if step.visits:
            ends.append(last)
            values.append(step.q)
    return ends, values
