"""Columns of a tree dataset: a row a node, the rows of a tree together and in order of its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from fpa_verl.trees.tree import NO_PARENT, Node, Tree

SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        # Which of the problem's trees; with problem_id it names a tree.
        ("tree", pa.int32()),
        ("data_source", pa.dictionary(pa.int16(), pa.string())),
        ("ground_truth", pa.string()),
        # Its number in the tree, 0 for the root, and that of the node above, -1 for the root.
        ("node", pa.int32()),
        ("parent", pa.int32()),
        ("depth", pa.int32()),
        # Of the step exactly as the rollout engine produced it; of the root the prompt's, without log-probs.
        ("token_ids", pa.list_(pa.int32())),
        ("log_probs", pa.list_(pa.float32())),
        ("text", pa.string()),
        ("prior", pa.float64()),
        # N and W.
        ("visits", pa.int32()),
        ("total", pa.float64()),
        # One of ENDS; and the scorer's word of a solution that ended, null of a node that is open.
        ("end", pa.dictionary(pa.int8(), pa.string())),
        ("status", pa.dictionary(pa.int8(), pa.string())),
        ("sampled_tokens", pa.int32()),
    ]
)
OF_TREE = ("problem_id", "tree", "data_source", "ground_truth")
OF_NODE = tuple(name for name in SCHEMA.names if name not in (*OF_TREE, "node"))


def to_table(trees: Iterable[Tree]) -> pa.Table:
    """Trees as one arrow table of `SCHEMA`."""
    rows = [_row(tree, number, node) for tree in trees for number, node in enumerate(tree.nodes)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _row(tree: Tree, number: int, node: Node) -> dict[str, Any]:
    return {
        "problem_id": tree.problem_id,
        "tree": tree.number,
        "data_source": tree.data_source,
        "ground_truth": tree.ground_truth,
        "node": number,
        **{name: getattr(node, name) for name in OF_NODE},
    }


def rows_of_trees(table: pa.Table) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The rows of one tree after the other, and the place of the first."""
    rows = table.to_pylist()
    starts = [place for place, row in enumerate(rows) if not place or row["node"] == 0]
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield start, rows[start:end]


def tree_of(rows: list[dict[str, Any]]) -> Tree:
    """The tree of its rows, which `checks.faults` has nothing against."""
    first = rows[0]
    nodes = [Node(**{name: row[name] for name in OF_NODE}) for row in rows]
    for number, node in enumerate(nodes):
        node.token_ids, node.log_probs = tuple(node.token_ids), tuple(node.log_probs)
        if node.parent != NO_PARENT:
            nodes[node.parent].children.append(number)
    return Tree(first["problem_id"], first["data_source"], first["ground_truth"], first["tree"], nodes)
