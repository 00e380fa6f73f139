"""How many problems and samples it takes to see a given difference between two runs.

The measured difference over n problems with K samples each has variance (between + within / K) / n:
more samples remove the second part, only more problems remove the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation.accuracy import Outcomes
from fpa_verl.evaluation.intervals import LEVEL

# The chance with which a difference is to be found.
WANTED = 0.8

# What is assumed of two runs that start from the same base model, where no pilot says otherwise.
DEFAULT_ACCURACY = 0.7
DEFAULT_ALIKENESS = 0.6
DEFAULT_AGREEMENT = 0.8


@dataclass(frozen=True)
class Variances:
    """Variances of one problem's difference between two runs.

    Attributes:
        between: over problems, of the true difference.
        within: of the measured difference around the true one, for one sample from each run.
    """

    between: float
    within: float

    def of_mean(self, problems: int, samples: int) -> float:
        return (self.between + self.within / samples) / problems


@dataclass(frozen=True)
class Requirement:
    """Problems that show `difference` with `samples` of each problem from either run."""

    difference: float
    samples: int
    problems: int


def variances_of_two_runs(first: Outcomes, second: Outcomes) -> Variances:
    """Variances from a pilot: both runs, over the problems they share, each sampled at least twice by either.

    within is the unbiased p (1 - p) K / (K - 1), meaned over problems and added over runs; between is the
    variance of the measured differences less what within explains of it, at least 0.

    Raises:
        DatasetError: fewer than two such problems.
    """
    pairs = [(first[key], second[key]) for key in sorted(first.keys() & second.keys())]
    pairs = [pair for pair in pairs if min(pair[0][1], pair[1][1]) >= 2]
    if len(pairs) < 2:
        raise DatasetError("a pilot needs two problems that both runs sampled at least twice: sample more")
    (p1, w1, k1), (p2, w2, k2) = (_shares([pair[i] for pair in pairs]) for i in (0, 1))
    explained = float((w1 / k1 + w2 / k2).mean())
    return Variances(max(0.0, float((p1 - p2).var(ddof=1)) - explained), float((w1 + w2).mean()))


def variances_of_one_run(outcomes: Outcomes, agreement: float = DEFAULT_AGREEMENT) -> Variances:
    """Variances from one run as a pilot, the other one assumed to be like it.

    Args:
        outcomes: problem id to (right, sampled); problems sampled less than twice are left out.
        agreement: correlation over problems of the two runs' true accuracies; 0.8 is an assumption.

    Raises:
        DatasetError: fewer than two problems were sampled at least twice.
    """
    usable = [pair for pair in outcomes.values() if pair[1] >= 2]
    if len(usable) < 2:
        raise DatasetError("a pilot needs two problems that were sampled at least twice: sample more")
    p, within, k = _shares(usable)
    between = max(0.0, float(p.var(ddof=1)) - float((within / k).mean()))
    return Variances(2 * (1 - agreement) * between, 2 * float(within.mean()))


def default_variances(
    accuracy: float = DEFAULT_ACCURACY, alikeness: float = DEFAULT_ALIKENESS, agreement: float = DEFAULT_AGREEMENT
) -> Variances:
    """Without a pilot, from assumptions.

    Args:
        accuracy: about that of both runs.
        alikeness: intraclass correlation: share of p (1 - p) that lies between problems.
        agreement: correlation over problems of the two runs' true accuracies.
    """
    bernoulli = accuracy * (1 - accuracy)
    return Variances(2 * (1 - agreement) * alikeness * bernoulli, 2 * (1 - alikeness) * bernoulli)


def power(difference: float, variances: Variances, problems: int, samples: int, level: float = LEVEL) -> float:
    """Chance that a two-sided test at 1 - level finds a true `difference` (noncentral t)."""
    spread = math.sqrt(variances.of_mean(problems, samples))
    if not spread:
        return 1.0 if difference else 1 - level
    return chance(abs(difference) / spread, problems - 1, level)


def chance(shift: float, degrees_of_freedom: float, level: float = LEVEL) -> float:
    """Chance that a two-sided t test at 1 - level finds a true value of `shift` standard errors (noncentral t)."""
    reach = float(special.stdtrit(degrees_of_freedom, 0.5 + level / 2))
    # Far from the shift scipy says NaN for what is as good as none.
    below, above = (np.nan_to_num(special.nctdtr(degrees_of_freedom, shift, end)) for end in (-reach, reach))
    return float(1 - above + below)


def shift_found(degrees_of_freedom: float, wanted: float = WANTED, level: float = LEVEL) -> float:
    """True value over standard error that such a test finds with chance `wanted`; the far tail is left out."""
    reach = float(special.stdtrit(degrees_of_freedom, 0.5 + level / 2))
    return float(special.nctdtrinc(degrees_of_freedom, 1 - wanted, reach))


def problems_needed(
    difference: float, variances: Variances, samples: int, wanted: float = WANTED, level: float = LEVEL
) -> int:
    """Smallest number of problems whose power reaches `wanted`."""
    if not difference:
        raise ValueError("no number of problems shows a difference of 0")
    low, high = 1, 2
    while power(difference, variances, high, samples, level) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if power(difference, variances, middle, samples, level) < wanted:
            low = middle
        else:
            high = middle
    return high


def samples_needed(
    difference: float, variances: Variances, problems: int, wanted: float = WANTED, level: float = LEVEL
) -> int | None:
    """Smallest number of samples a problem whose power reaches `wanted`; None where no number does."""
    room = problems * (abs(difference) / shift_found(problems - 1, wanted, level)) ** 2 - variances.between
    return max(1, math.ceil(variances.within / room - 1e-9)) if room > 0 else None


def smallest_difference(
    variances: Variances, problems: int, samples: int, wanted: float = WANTED, level: float = LEVEL
) -> float:
    """The true difference that a test finds with chance `wanted`."""
    return shift_found(problems - 1, wanted, level) * math.sqrt(variances.of_mean(problems, samples))


def requirements(
    variances: Variances,
    differences: Sequence[float] = (0.01, 0.02, 0.03, 0.05),
    samples: Sequence[int] = (1, 2, 4, 8, 16, 32),
    wanted: float = WANTED,
    level: float = LEVEL,
) -> list[Requirement]:
    """Problems needed for every difference and number of samples: what to look at before paying."""
    return [Requirement(d, k, problems_needed(d, variances, k, wanted, level)) for d in differences for k in samples]


def _shares(outcomes: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of right samples, unbiased variance of one sample and number of samples of each problem."""
    right, k = np.array(outcomes, dtype=float).T
    p = right / k
    return p, p * (1 - p) * k / (k - 1), k
