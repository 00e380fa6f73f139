"""Faults of many rows: all counted, and how many of a kind are told."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from fpa_verl.findings import Finding, State

# Of many faults of a kind, as many are told one by one.
SHOWN = 5


class Faults:
    """Faults by subject: all counted, the first few kept."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = defaultdict(list)

    def add(self, subject: str, detail: str) -> None:
        self.counts[subject] += 1
        if len(self._first[subject]) < SHOWN:
            self._first[subject].append(detail)

    def findings(self, subject: str, remedy: str, fine: str, state: State = "wrong") -> Iterator[Finding]:
        """The subject's faults, with what to do about them; or that there are none.

        Args:
            subject: one that was given to `add`.
            remedy: ends each of them; empty where they say it themselves.
            fine: is said where there are none; empty for nothing.
            state: of each of them.
        """
        if not self.counts[subject]:
            yield from [Finding(subject, "fine", fine)] if fine else []
            return
        for detail in self._first[subject]:
            yield Finding(subject, state, f"{detail}: {remedy}" if remedy else detail)
        if more := self.counts[subject] - len(self._first[subject]):
            yield Finding(subject, state, f"and {more:,} more like these")
