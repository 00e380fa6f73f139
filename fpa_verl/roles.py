"""Roles of the rows that make one item of a batch: what a dataset selects, and what an objective learns from.

A pair is two adjacent rows, the preferred trajectory first. Which one is preferred is the selection's to say;
"right" and "wrong" are the scorer's words.
"""

from __future__ import annotations

TRAJECTORY, CHOSEN, REJECTED = "trajectory", "chosen", "rejected"
# Of a pair whose answers were sampled without thinking, beside one of which they were sampled with.
EMPTY_CHOSEN, EMPTY_REJECTED = "chosen without a trace", "rejected without a trace"

Roles = tuple[str, ...]
SINGLE: Roles = (TRAJECTORY,)
PAIR: Roles = (CHOSEN, REJECTED)
PAIR_OF_EACH_MODE: Roles = (CHOSEN, REJECTED, EMPTY_CHOSEN, EMPTY_REJECTED)


def of_traces(traces: int) -> Roles:
    """A chosen and a rejected answer, each reached by so many traces."""
    return (CHOSEN,) * traces + (REJECTED,) * traces
