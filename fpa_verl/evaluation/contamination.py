"""Evaluation problems that training problems give away: the same text, or nearly."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy import sparse

# Words of a shingle, and the share of common shingles from which two problems count as near.
SHINGLE = 5
NEAR = 0.5

FIGURE = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL | re.IGNORECASE)
# LaTeX that changes how a problem looks and not what it says.
LAYOUT = re.compile(
    r"\\(?:left|right|bigg?[lr]?|displaystyle|textstyle|limits|text(?:bf|it|rm)?|math(?:rm|bf|it|sf)"
    r"|operatorname|q?quad|[lcv]?dots[bcmo]?)(?![a-z])|\\[\[\]()]"
)
FRACTION = re.compile(r"\\[dt]frac")
# Without braces, an index, an exponent or a numerator is one digit: \log_82 is \log_8 2.
BARE_DIGIT = re.compile(r"([_^]|\\frac)([0-9])")
SPELLINGS = str.maketrans({"\N{MINUS SIGN}": "-", "\N{DEGREE SIGN}": " circ "})
# Words, numbers and signs. Dollars, braces, commas, ^ and _ come and go between spellings of one problem.
TOKEN = re.compile(r"[^\W\d_]+|[0-9]+(?:\.[0-9]+)?|[-+*/=<>()]")
# A space that does not keep two numbers apart.
SPACE = re.compile(r"(?<![0-9]) | (?![0-9])")


@dataclass(frozen=True)
class Match:
    """An evaluation problem and the training problem that is closest to it.

    Attributes:
        similarity: common shingles over all shingles of the two (Jaccard), 1 for the same.
        same: the normalised texts are equal, figures included.
    """

    evaluation_id: str
    training_id: str
    similarity: float
    same: bool


def words(text: str) -> list[str]:
    r"""The problem's words, numbers and signs, in lower case.

    What typesetting alone decides is dropped: dollars, braces, `\left`, `\text`, `\dfrac` for `\frac`,
    ellipses, punctuation.
    """
    folded = _composed(_composed(text).casefold()).translate(SPELLINGS)
    plain = BARE_DIGIT.sub(r"\1\2 ", FRACTION.sub(r"\\frac", LAYOUT.sub(" ", folded)))
    return TOKEN.findall(plain)


def normalised(text: str) -> str:
    """What two spellings of a problem have in common: its `words`, without spaces but between two numbers.

    `k x` is `kx`, and `1 2` is not `12`. Normalising a second time changes nothing.
    """
    return _composed(SPACE.sub("", " ".join(words(text))))


def shingles(text: str, length: int = SHINGLE) -> set[tuple[str, ...]]:
    """All runs of `length` words of the text without its figures; the whole of a shorter one."""
    tokens = words(FIGURE.sub(" ", text))
    return {tuple(tokens[i : i + length]) for i in range(max(1, len(tokens) - length + 1))} if tokens else set()


def _composed(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


class ProblemIndex:
    """Training problems, ready to be asked which evaluation problems occur among them.

    Exact: no pair is left out by hashing or sampling. The work is one sparse product of (evaluation
    problems, shingles) and (shingles, training problems).

    Args:
        training: problem id to text.
    """

    def __init__(self, training: Mapping[str, str]):
        self.ids = list(training)
        # Of equal texts the first counts.
        self.position_of: dict[str, int] = {}
        self.columns: dict[tuple[str, ...], int] = {}
        found = []
        for position, text in enumerate(training.values()):
            self.position_of.setdefault(normalised(text), position)
            found.append(shingles(text))
        for shingle in chain.from_iterable(found):
            self.columns.setdefault(shingle, len(self.columns))
        self.sizes = np.array([len(own) for own in found])
        self.incidence = self._incidence(found)

    def matches(self, evaluation: Mapping[str, str], near: float = NEAR) -> list[Match]:
        """Evaluation problems that occur here, each with the training problem closest to it; closest first.

        A problem occurs if its normalised text is that of a training problem, or if the share of common
        shingles is `near` or more.

        Args:
            evaluation: problem id to text.
            near: above 0, up to 1.
        """
        found = [shingles(text) for text in evaluation.values()]
        common = (self._incidence(found) @ self.incidence.T).tocsr()
        matches = []
        for row, (problem_id, text) in enumerate(evaluation.items()):
            spelling = normalised(text)
            if spelling and spelling in self.position_of:
                matches.append(Match(problem_id, self.ids[self.position_of[spelling]], 1.0, same=True))
                continue
            position, similarity = self._closest(common.getrow(row), len(found[row]))
            if similarity >= near:
                matches.append(Match(problem_id, self.ids[position], similarity, same=False))
        return sorted(matches, key=lambda match: (not match.same, -match.similarity))

    def _closest(self, common: sparse.csr_matrix, size: int) -> tuple[int, float]:
        """Position and similarity of the training problem most similar to one of `size` shingles."""
        if not common.nnz:
            return -1, 0.0
        similarity = common.data / (size + self.sizes[common.indices] - common.data)
        # Of equally close ones the first.
        best = np.lexsort((common.indices, -similarity))[0]
        return int(common.indices[best]), float(similarity[best])

    def _incidence(self, found: list[set[tuple[str, ...]]]) -> sparse.csr_matrix:
        """Which problem has which of the training problems' shingles."""
        known = [[self.columns[shingle] for shingle in own if shingle in self.columns] for own in found]
        ends = np.cumsum([0, *map(len, known)])
        indices = np.fromiter(chain.from_iterable(known), dtype=np.int64, count=ends[-1])
        ones = np.ones(len(indices), np.int32)
        return sparse.csr_matrix((ones, indices, ends), (len(known), len(self.columns)))
