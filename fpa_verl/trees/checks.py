"""What is wrong with the rows of a tree: each value by itself, a node with the one above, and counts with each other.

Pure: rows in, faults out. The reader refuses the first one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from fpa_verl.reward.verdicts import STATUSES
from fpa_verl.rollouts.row_checks import Fault
from fpa_verl.trees.schema import OF_TREE, SCHEMA
from fpa_verl.trees.tree import ENDS, NO_PARENT, OPEN, ROOT

Row = dict[str, Any]
MAY_BE_NULL = ("status",)
# What a prior may be off by from the log-probs, which are stored in single precision, and a sum from its parts.
NEARLY = 1e-4


def faults(rows: list[Row], first: int = 0) -> Iterator[Fault]:
    """Everything that no search writes.

    Args:
        rows: of one tree, valid rows of `SCHEMA`.
        first: the place of the first in its file.
    """
    for place, row in enumerate(rows):
        found = list(_nulls(row)) or [*_values(row), *_place(rows, place)]
        if found:
            # What is counted below makes no sense then.
            yield from (Fault(subject, first + place, column, what) for subject, column, what in found)
            return
    yield from (Fault("counts", first + place, column, what) for place, column, what in _counts(rows))


def _nulls(row: Row) -> Iterator[tuple[str, str, str]]:
    for column in SCHEMA.names:
        if row[column] is None and column not in MAY_BE_NULL:
            yield "values", column, "is null"


def _values(row: Row) -> Iterator[tuple[str, str, str]]:
    for column in ("tree", "node", "depth", "visits", "sampled_tokens"):
        if row[column] < 0:
            yield "values", column, f"is {row[column]}, below 0"
    if row["end"] not in ENDS:
        yield "values", "end", f"is {row['end']!r}, not one of {', '.join(ENDS)}"
    elif (row["status"] is None) != (row["end"] == OPEN):
        yield "values", "status", f"is {row['status']!r} where the end is {row['end']!r}"
    if row["status"] not in (None, *STATUSES):
        yield "values", "status", f"is {row['status']!r}, not one of {', '.join(STATUSES)}"
    if not row["token_ids"] or any(token is None or token < 0 for token in row["token_ids"]):
        yield "tokens", "token_ids", "has no tokens, or holds what is no token id"
    if not abs(row["total"]) <= row["visits"]:
        yield "values", "total", f"is {row['total']:g} of {row['visits']} visits: a value lies between -1 and 1"
    yield from _log_probs(row)


def _log_probs(row: Row) -> Iterator[tuple[str, str, str]]:
    found = row["log_probs"]
    wanted = 0 if row["node"] == ROOT else len(row["token_ids"])
    if len(found) != wanted:
        yield "lengths", "log_probs", f"has {len(found)} values where {wanted} are wanted"
    elif any(one is None or not (math.isfinite(one) and one <= 0) for one in found):
        yield "log-probs", "log_probs", "holds no finite log-prob of 0 or below"
    elif not abs(row["prior"] - math.exp(sum(found) / max(1, wanted))) <= NEARLY:
        yield "values", "prior", f"is {row['prior']:g}, which the log-probs do not say"


def _place(rows: list[Row], place: int) -> Iterator[tuple[str, str, str]]:
    """Where the row stands in its tree."""
    row, root = rows[place], rows[0]
    for column in OF_TREE:
        if row[column] != root[column]:
            yield "tree", column, f"is {row[column]!r}, the root's is {root[column]!r}"
    if row["node"] != place:
        yield "tree", "node", f"is {row['node']} where {place} is wanted: rows are missing or out of order"
    elif place == ROOT:
        if (row["parent"], row["depth"], row["end"]) != (NO_PARENT, 0, OPEN):
            yield "tree", "parent", f"is {row['parent']}, depth {row['depth']}, end {row['end']!r} of a root"
    elif not 0 <= row["parent"] < place:
        yield "tree", "parent", f"is {row['parent']}, where a node before {place} is wanted"
    else:
        above = rows[row["parent"]]
        if row["depth"] != above["depth"] + 1:
            yield "tree", "depth", f"is {row['depth']}, that of the node above {above['depth']}"
        if above["end"] != OPEN:
            yield "tree", "parent", f"is {row['parent']}, whose solution has ended"


def _counts(rows: list[Row]) -> Iterator[tuple[int, str, str]]:
    """What a node has beyond those below it is its own: V once where it was continued, or its outcome once."""
    visits, totals = [row["visits"] for row in rows], [row["total"] for row in rows]
    tokens, children = [0] * len(rows), [0] * len(rows)
    for row in rows[1:]:
        visits[row["parent"]] -= row["visits"]
        totals[row["parent"]] -= row["total"]
        tokens[row["parent"]] += len(row["token_ids"])
        children[row["parent"]] += 1
    for place, row in enumerate(rows):
        own = 1 if children[place] or row["status"] in ("right", "wrong", "no_answer") else 0
        if visits[place] != own:
            yield place, "visits", f"is {row['visits']}, by the nodes below {row['visits'] - visits[place] + own}"
        elif abs(totals[place]) > own + NEARLY:
            yield place, "total", f"is {row['total']:g}, {totals[place]:g} more than the nodes below have"
        if row["sampled_tokens"] < tokens[place]:
            yield place, "sampled_tokens", f"is {row['sampled_tokens']}, its children have {tokens[place]}"
