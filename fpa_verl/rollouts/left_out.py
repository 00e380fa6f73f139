"""What an import did not take of a file, and must say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fpa_verl.rollouts.ranked import ALONE, NEAR, SAME_SCORE, SAME_TEXT

# Ids that a note names.
SHOWN = 5
# In words, which pairs were left out.
NOT_PAIRED = {
    SAME_TEXT: "with the same text on both sides: {number:,} pairs",
    SAME_SCORE: "with the same score on both sides: {number:,} pairs",
    NEAR: "with scores that differ by less than --margin: {number:,} pairs",
    ALONE: "with a single response: {number:,} prompts",
}


@dataclass
class LeftOut:
    """What was not taken of a file, and what was made of it.

    Attributes:
        unanswered: ids of problems without a ground truth.
        behind_end: responses of which something stood behind their end.
        pairs: pairs that were not made, or not taken, and why: `SAME_SCORE`, `SAME_TEXT`, `NEAR`; and prompts whose
            only response was `ALONE`.
        ranked: prompts whose scored responses a rule made pairs of.
        doubtful: pairs that are taken though their own scores do not say that the chosen side is better.
        bad: of records that were left out, what is wrong with them.
    """

    unanswered: dict[str, None] = field(default_factory=dict)
    behind_end: int = 0
    pairs: Counter[str] = field(default_factory=Counter)
    ranked: int = 0
    doubtful: int = 0
    bad: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "without_answer": list(self.unanswered),
            "cut_behind_end": self.behind_end,
            **{why: self.pairs[why] for why in NOT_PAIRED},
            "bad": len(self.bad),
        }

    def notes(self) -> list[str]:
        """In words, what a user must know of it."""
        notes = []
        if self.unanswered:
            ids = list(self.unanswered)
            more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
            notes.append(f"left out, without an answer: {', '.join(ids[:SHOWN])}{more}")
        if self.bad:
            notes.append(f"left out, {len(self.bad):,} bad records, the first: {self.bad[0]}")
        if self.behind_end:
            notes.append(f"cut off, what stood behind the end of a response: in {self.behind_end:,} responses")
        notes += [f"left out, {NOT_PAIRED[why].format(number=number)}" for why, number in self.pairs.items()]
        if self.doubtful:
            notes.append(
                f"{self.doubtful:,} pairs stay whose 'chosen' has no higher score than 'rejected': --margin 0 leaves "
                "them out"
            )
        return notes
