"""Our accuracy in a cell, with an error over problems and seeds, and whether it agrees with the published one.

S seeds, P problems. All accuracies and errors are fractions of 1.

    m_p     mean over seeds of the share of right samples of problem p
    a_s     accuracy of seed s
    s.e.^2  = var(m_p) / P + var(a_s) / S          variances with n - 1

Both terms hold the noise of sampling, which therefore counts twice: rather too wide than too narrow. With one seed the
second term is missing. The mean of k columns has the first term of each over k^2, and the spread of the seeds' means.

    interval  = d -+ t sqrt(s.e.^2 + published s.e.^2)      d = ours - published, level 95 %

t is Student's quantile; its degrees of freedom are Welch and Satterthwaite's, of the terms of our error, the published
one being taken as known. With a margin M, the words are

    agrees     the interval lies between -M and M, whether or not 0 is in it: a smaller difference is of no account
    differs    it does not, and 0 is outside
    undecided  anything else, and where there is no interval

Of a misprint that may be read in several ways, each reading is judged by: it agrees where all do, differs where all do
to one side, and is else undecided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fpa_verl.evaluation import Outcomes
from fpa_verl.evaluation.intervals import LEVEL
from fpa_verl.evaluation.seeds import StudentT, welch_satterthwaite
from fpa_verl.report.paper.published import Value

MARGIN = 0.02
Word = Literal["agrees", "differs", "undecided", "not run"]


@dataclass(frozen=True)
class Part:
    """A term of a squared error, and its degrees of freedom."""

    variance: float
    freedom: int


@dataclass(frozen=True)
class Measured:
    """Accuracy in a column, or its mean over several.

    Attributes:
        by_seed: (S,) accuracy of each seed.
        by_problem: for every column problem to its mean over seeds.
    """

    by_seed: NDArray[np.float64]
    by_problem: tuple[dict[str, float], ...]

    @property
    def accuracy(self) -> float:
        return float(self.by_seed.mean())

    @property
    def problems(self) -> int:
        return sum(map(len, self.by_problem))

    @property
    def parts(self) -> list[Part]:
        return [*problem_parts(self.by_problem), *seed_parts(self.by_seed)]

    @property
    def standard_error(self) -> float:
        """NaN where problems do not tell: one alone, or all of them alike."""
        return math.sqrt(sum(part.variance for part in self.parts))

    @property
    def reach(self) -> float:
        """Half of the 95 % interval of the accuracy; NaN where there is none."""
        return _reach(self.parts)


def problem_parts(columns: Sequence[dict[str, float]]) -> list[Part]:
    """The error over problems of the mean over columns, a term a column; NaN where nothing tells of other problems."""
    found = []
    for values in columns:
        n = len(values)
        variance = float(np.var(list(values.values()), ddof=1)) if n > 1 else math.nan
        # Every problem alike, all right for one, is no proof that the next will be.
        found.append(Part(variance / n / len(columns) ** 2 if variance else math.nan, n - 1))
    return found


def seed_parts(by_seed: NDArray[np.float64]) -> list[Part]:
    """The error over seeds; nothing where there is one."""
    seeds = len(by_seed)
    return [Part(float(by_seed.var(ddof=1)) / seeds, seeds - 1)] if seeds > 1 else []


def measure(seeds: Sequence[Outcomes]) -> Measured:
    """Accuracy of some seeds on one column; problems that a seed did not sample are not in its mean.

    Args:
        seeds: for each the outcomes of all sets of the column.
    """
    shares = [{key: right / sampled for key, (right, sampled) in one.items() if sampled} for one in seeds]
    by_seed = np.array([np.mean(list(one.values())) if one else np.nan for one in shares])
    asked = sorted({key for one in shares for key in one})
    return Measured(by_seed, ({key: float(np.mean([one[key] for one in shares if key in one])) for key in asked},))


def average(columns: Sequence[Measured]) -> Measured:
    """The unweighted mean over columns of the same seeds."""
    by_seed = np.mean([column.by_seed for column in columns], axis=0)
    return Measured(by_seed, tuple(values for column in columns for values in column.by_problem))


@dataclass(frozen=True)
class Difference:
    """A difference with its 95 % interval; the ends are NaN where there is none."""

    value: float
    low: float
    high: float

    def word(self, margin: float) -> Word:
        """Whether the two agree, by the module's definitions."""
        if -margin <= self.low and self.high <= margin:
            return "agrees"
        return "differs" if self.low > 0 or self.high < 0 else "undecided"


def from_published(ours: Measured, published: Value) -> Difference:
    """Ours less the published, as it is printed or read, with the largest of the errors that it may have."""
    error = max(one.standard_error for one in published.readings)
    return _difference(ours.accuracy - published.accuracy, ours.parts, error**2)


def word_of(ours: Measured, published: Value, margin: float) -> Word:
    """The word that holds whichever reading of the published number is right."""
    differences = [from_published(ours, one) for one in published.readings]
    words = {one.word(margin) for one in differences}
    one_side = len({one.value > 0 for one in differences}) == 1
    if len(words) > 1 or (words == {"differs"} and not one_side):
        return "undecided"
    return words.pop()


def from_ours(first: Measured, second: Measured) -> Difference:
    """The first less the second, both of the same columns: over the problems that both were asked, and their seeds."""
    problems = [
        {key: one[key] - other[key] for key in one.keys() & other.keys()}
        for one, other in zip(first.by_problem, second.by_problem, strict=True)
    ]
    parts = [*problem_parts(problems), *seed_parts(first.by_seed), *seed_parts(second.by_seed)]
    return _difference(first.accuracy - second.accuracy, parts)


def _difference(value: float, parts: list[Part], known: float = 0.0) -> Difference:
    reach = _reach(parts, known)
    return Difference(value, value - reach, value + reach)


def _reach(parts: list[Part], known: float = 0.0) -> float:
    """Half of the interval of a sum with these errors and one, squared, that is taken as known."""
    own = sum(part.variance for part in parts)
    if not own > 0:
        return math.nan
    freedom = welch_satterthwaite(own + known, [(part.variance, part.freedom) for part in parts])
    _, high = StudentT(0.0, math.sqrt(own + known), freedom).interval(LEVEL)
    return high
