"""What a ledger does not have of what a run did: its cost is then not known, and must not look like a small one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def missing_from_ledger(records: list[dict[str, Any]], evaluations: Iterable[tuple[int, int]]) -> str:
    """In words, what is missing; empty where the cost of every evaluation is there.

    A kill may cost the last line: the step that was under way, which may have been evaluated already.

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
    last: dict[int, int] = {}
    done = 0
    for attempt in sorted(begun):
        steps = {record["step"] for record in records if record["attempt"] == attempt and record.get("step")}
        # An attempt goes on from a checkpoint, whose steps are those of attempts before.
        first = min(done + 1, *steps) if steps else done
        if gaps := sorted(set(range(first, max(steps, default=0))) - steps):
            return f"lacks {len(gaps):,} steps (the first is {gaps[0]:,})"
        done = last[attempt] = max(done, *steps) if steps else done
    for attempt, step in evaluations:
        if step > last[attempt] + 1:
            return f"ends at step {last[attempt]:,} of attempt {attempt}, and step {step:,} was evaluated"
    return ""
