"""What a ledger does not have of what a run did: its cost is then not known, and must not look like a small one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def missing_from_ledger(records: list[dict[str, Any]], evaluations: Iterable[tuple[int, int]]) -> str:
    """In words, what is missing; empty where the cost of every evaluation is there.

    A kill costs the step that was under way, which may have been saved and evaluated already: that is no gap.

    Args:
        records: those of the ledger.
        evaluations: (attempt, step) of each.
    """
    evaluations = list(evaluations)
    if not records:
        return "has no record" if evaluations else ""
    begun = {record["attempt"] for record in records if record["kind"] == "attempt"}
    named = {record["attempt"] for record in records} | {attempt for attempt, _ in evaluations}
    if lost := sorted(set(range(1, max(named) + 1)) - begun):
        return f"does not say how attempt {lost[0]} began"
    # The last step of any attempt so far, and the last that one may have gone on from: a step is saved and evaluated
    # before it is written down.
    done, saved = 0, 0
    may_be_evaluated: dict[int, int] = {}
    for attempt in sorted(begun):
        steps = {record["step"] for record in records if record["attempt"] == attempt and record.get("step")}
        first = min(steps, default=0)
        before = range(done + 1, first) if first > saved + 1 else ()
        if gaps := sorted({*before, *range(first, max(steps, default=0))} - steps):
            return f"lacks {len(gaps):,} steps (the first is {gaps[0]:,})"
        done = max(done, *steps) if steps else done
        saved = may_be_evaluated[attempt] = max(saved, max(steps, default=saved) + 1)
    for attempt, step in evaluations:
        if step > may_be_evaluated[attempt]:
            return f"ends at step {done:,}, and step {step:,} was evaluated"
    return ""
