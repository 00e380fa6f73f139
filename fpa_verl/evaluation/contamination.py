"""Evaluation problems that training problems give away: the same text, or nearly.

Of two problems, plain is the share of common shingles (Jaccard). Shingles that many problems of one of the two sets
have say little: they are of a template, or of an instruction. Specific is the same share over the others. A problem
that is like many training problems, whatever its numbers, is of a template: only the same numbers make it near.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fpa_verl.evaluation.wording import SHINGLE, normalised, numbers, patterns, runs, said, without_instruction

# The share of common shingles from which two problems count as near.
NEAR = 0.5
# Many problems are more than so many, and more than this share of the set.
MANY, MANY_SHARE = 10, 0.005
# The share of common shingles, whatever their numbers, from which two problems may be of one template.
ONE_TEMPLATE = 0.25
# Evaluation problems compared at once, which bounds the memory where all are alike.
_CHUNK = 200

Shingle = tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """An evaluation problem and the training problem that is closest to it.

    Attributes:
        similarity: plain, or where that is below what was asked for, specific; 1 for the same.
        same: the normalised texts are equal, figures included.
    """

    evaluation_id: str
    training_id: str
    similarity: float
    same: bool


@dataclass(frozen=True)
class Findings:
    """What came of looking for evaluation problems among the training problems.

    Attributes:
        matches: closest first.
        templated: evaluation problems that are no match, and would be, were they not made like many others.
    """

    matches: list[Match]
    templated: int

    @property
    def same(self) -> list[Match]:
        return [match for match in self.matches if match.same]

    @property
    def near(self) -> list[Match]:
        return [match for match in self.matches if not match.same]

    def template_note(self, name: str, total: int) -> str | None:
        """What to know where many problems are put together alike; None where they are not."""
        if not self.templated:
            return None
        return (
            f"{self.templated:,} of {name}'s {total:,} problems are made like many others (a template) and have other "
            "numbers than the training problems that they are closest to: they do not count as near"
        )


@dataclass(frozen=True)
class _Side:
    """The problems of a set, as they are compared.

    Attributes:
        spellings: normalised texts of each, with and without the set's instruction.
        frequency: how many problems have a shingle.
    """

    spellings: list[list[str]]
    shingles: list[set[Shingle]]
    numbers: list[tuple[str, ...]]
    frequency: Counter[Shingle]

    @property
    def many(self) -> float:
        """More than so many problems are many of them."""
        return max(MANY, MANY_SHARE * len(self.shingles))

    @property
    def common(self) -> set[Shingle]:
        """Shingles that many of the problems have."""
        return {shingle for shingle, count in self.frequency.items() if count > self.many}

    @cached_property
    def patterns(self) -> list[set[Shingle]]:
        """Shingles of each, whatever the values of their numbers."""
        return [patterns(own) for own in self.shingles]

    @staticmethod
    def of(texts: Mapping[str, str]) -> _Side:
        given = list(texts.values())
        bare = without_instruction(given)
        spellings = [[normalised(one) for one in dict.fromkeys(pair)] for pair in zip(given, bare, strict=True)]
        tokens = [said(text) for text in bare]
        found = [runs(own) for own in tokens]
        return _Side(spellings, found, [numbers(own) for own in tokens], Counter(chain.from_iterable(found)))


class ProblemIndex:
    """Training problems, ready to be asked which evaluation problems occur among them.

    Exact: no pair is left out by hashing or sampling. The work is two sparse products of (evaluation
    problems, shingles) and (shingles, training problems).

    Args:
        training: problem id to text.
    """

    def __init__(self, training: Mapping[str, str]):
        self.ids = list(training)
        self.side = _Side.of(training)
        # Of equal texts the first counts.
        self.position_of: dict[str, int] = {}
        for position, spellings in enumerate(self.side.spellings):
            for spelling in spellings:
                self.position_of.setdefault(spelling, position)
        self.columns = {shingle: place for place, shingle in enumerate(self.side.frequency)}
        self.incidence = _incidence(self.side.shingles, self.columns)

    def matches(self, evaluation: Mapping[str, str], near: float = NEAR) -> list[Match]:
        """The matches of `compare`."""
        return self.compare(evaluation, near).matches

    def compare(self, evaluation: Mapping[str, str], near: float = NEAR) -> Findings:
        """Evaluation problems that occur here, each with the training problem closest to it.

        A problem occurs if its normalised text is that of a training problem, both with or without the instruction of
        their sets. It is near if plain and specific are `near` or more; or if specific is, over `SHINGLE` common ones
        at least; or if plain is and the numbers are the same. Of a template, it is so with the same numbers alone.

        Args:
            evaluation: problem id to text.
            near: above 0, up to 1.
        """
        asked = _Side.of(evaluation)
        common = self.side.common | asked.common
        comparison = _Comparison(self, asked, common, near)
        matches, templated = [], 0
        for row, problem_id in enumerate(evaluation):
            known = [spelling for spelling in asked.spellings[row] if spelling and spelling in self.position_of]
            if known:
                matches.append(Match(problem_id, self.ids[self.position_of[known[0]]], 1.0, same=True))
                continue
            position, similarity, is_templated = comparison.closest(row)
            templated += is_templated
            if position is not None:
                matches.append(Match(problem_id, self.ids[position], similarity, same=False))
        return Findings(sorted(matches, key=lambda match: (not match.same, -match.similarity)), templated)


def _incidence(found: list[set[Shingle]], columns: Mapping[Shingle, int]) -> sparse.csr_matrix:
    """Which problem has which of the shingles that have a column."""
    known = [[columns[shingle] for shingle in own if shingle in columns] for own in found]
    ends = np.cumsum([0, *map(len, known)])
    indices = np.fromiter(chain.from_iterable(known), dtype=np.int64, count=ends[-1])
    ones = np.ones(len(indices), np.int32)
    return sparse.csr_matrix((ones, indices, ends), (len(known), len(columns)))


class _Comparison:
    """Evaluation problems beside all training problems, some at a time."""

    def __init__(self, index: ProblemIndex, asked: _Side, common: set[Shingle], near: float):
        self.near = near
        self.training, self.asked = index.incidence, _incidence(asked.shingles, index.columns)
        specific = np.flatnonzero([shingle not in common for shingle in index.columns])
        self.training_specific, self.asked_specific = self.training[:, specific], self.asked[:, specific]
        self.sizes = [np.array([len(own) for own in side.shingles]) for side in (asked, index.side)]
        self.specific_sizes = [
            np.array([sum(shingle not in common for shingle in own) for own in side.shingles])
            for side in (asked, index.side)
        ]
        # The same number for the same numbers; texts without any have none in common.
        known: dict[tuple[str, ...], int] = {}
        self.numbers = [
            np.array([known.setdefault(own, len(known)) if own else -1 - side for own in one.numbers], dtype=np.int64)
            for side, one in enumerate((asked, index.side))
        ]
        places = {one: place for place, one in enumerate(dict.fromkeys(chain.from_iterable(index.side.patterns)))}
        self.patterns = [_incidence(side.patterns, places) for side in (asked, index.side)]
        self.pattern_sizes = [np.array([len(own) for own in side.patterns]) for side in (asked, index.side)]
        self.many = index.side.many
        self.rows: range = range(0)

    def closest(self, row: int) -> tuple[int | None, float, bool]:
        """Position and similarity of the nearest training problem; None, and whether a template is why."""
        if row not in self.rows:
            self._advance(row)
        counts = self.plain_counts.getrow(row - self.rows.start)
        places = counts.indices
        if not len(places):
            return None, 0.0, False
        specific_counts = np.zeros(self.training.shape[0])
        found = self.specific_counts.getrow(row - self.rows.start)
        specific_counts[found.indices] = found.data
        plain = _jaccard(counts.data, self.sizes, row, places)
        specific = _jaccard(specific_counts[places], self.specific_sizes, row, places)
        alike = plain >= self.near
        same_numbers = self.numbers[1][places] == self.numbers[0][row]
        by_rest = (specific >= self.near) & (alike | (specific_counts[places] >= SHINGLE))
        is_near = (alike | by_rest) & same_numbers
        if not self._is_of_a_template(row):
            is_near |= by_rest
        if not is_near.any():
            return None, 0.0, bool((alike | by_rest).any())
        similarity = np.where(is_near, np.where(alike, plain, specific), -1.0)
        # Of equally close ones the first.
        best = np.lexsort((places, -similarity))[0]
        return int(places[best]), float(similarity[best]), False

    def _is_of_a_template(self, row: int) -> bool:
        """Whether many training problems are like this one, whatever the values of their numbers."""
        counts = self.pattern_counts.getrow(row - self.rows.start)
        shares = _jaccard(counts.data, self.pattern_sizes, row, counts.indices)
        return bool(np.count_nonzero(shares >= ONE_TEMPLATE) > self.many)

    def _advance(self, row: int) -> None:
        """Compare the rows from this one on."""
        self.rows = range(row, min(row + _CHUNK, self.asked.shape[0]))
        some = slice(self.rows.start, self.rows.stop)
        self.plain_counts = (self.asked[some] @ self.training.T).tocsr()
        self.specific_counts = (self.asked_specific[some] @ self.training_specific.T).tocsr()
        self.pattern_counts = (self.patterns[0][some] @ self.patterns[1].T).tocsr()


def _jaccard(
    common: NDArray[np.float64], sizes: list[NDArray[np.int64]], row: int, places: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Common over all shingles of the evaluation problem `row` and the training problems at `places`."""
    everything = sizes[0][row] + sizes[1][places] - common
    return np.divide(common, everything, out=np.zeros(len(places)), where=everything > 0)
