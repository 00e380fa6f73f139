"""Intervals over training seeds: of an accuracy over seeds and problems, of any other number over seeds alone.

S runs of a method that differ in the seed, P problems that all of them were asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StudentT:
    """A number with its error and the degrees of freedom of that; both NaN where one seed or problem is all there is.

    Attributes:
        value, standard_error: in the unit of what went in; an accuracy is a fraction of 1.
    """

    value: float
    standard_error: float
    degrees_of_freedom: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """(low, high) of that nominal coverage."""
        half = float(special.stdtrit(self.degrees_of_freedom, 0.5 + level / 2)) * self.standard_error
        return self.value - half, self.value + half


def over_seeds_and_problems(*methods: Array) -> StudentT:
    """The sum of the methods' accuracies, for other seeds and other problems of the same kind.

    A method that is subtracted comes with its sign turned: `over_seeds_and_problems(first, -second)` is the first's
    accuracy less the second's. Problems are the same for all methods, seeds are drawn for each by itself:

        variance = max(sd(d_p)^2 / P, 1 / P^2) + sum over methods of sd(a_s)^2 / S

    d_p is the sum over methods of a problem's mean over seeds, a_s a seed's mean over problems; Student's t with the
    degrees of freedom that Welch and Satterthwaite give to these terms. Each term estimates its own part, and the noise
    of decoding as well as what a seed changes in single problems is in both: the interval is too wide by that. The
    problems' term is not below that of one problem which one method alone solves, because none among P does not show
    that there is none.

    Args:
        methods: (S, P) shares of right samples of each; S may differ.
    """
    problems = methods[0].shape[1]
    by_problem = np.sum([one.mean(axis=0) for one in methods], axis=0)
    variances = [max(_variance_of_mean(by_problem), 1 / problems**2)] if problems > 1 else [math.nan]
    variances += [_variance_of_mean(one.mean(axis=1)) for one in methods]
    sizes = [problems, *(len(one) for one in methods)]
    return _student(float(by_problem.mean()), variances, sizes)


def over_seeds(*methods: Sequence[float]) -> StudentT:
    """The sum of the methods' means over seeds: Student's t of one, Welch's of two, the second with its sign turned."""
    means = [np.mean(one) for one in methods]
    variances = [_variance_of_mean(np.asarray(one, dtype=np.float64)) for one in methods]
    return _student(float(sum(means)), variances, [len(one) for one in methods])


def _variance_of_mean(values: Array) -> float:
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else math.nan


def _student(value: float, variances: list[float], sizes: list[int]) -> StudentT:
    total = sum(variances)
    if total == 0:
        return StudentT(value, 0.0, float(sum(sizes) - len(sizes)))
    terms = [(variance, size - 1) for variance, size in zip(variances, sizes, strict=True) if size > 1]
    return StudentT(value, math.sqrt(total), welch_satterthwaite(total, terms))


def welch_satterthwaite(total: float, terms: Sequence[tuple[float, int]]) -> float:
    """Degrees of freedom of a squared error; NaN where no term is estimated.

    Args:
        total: the squared error, with what of it is known and not estimated.
        terms: each estimated variance in it, and its own degrees of freedom.
    """
    spread = sum(variance**2 / freedom for variance, freedom in terms)
    return total**2 / spread if spread else math.nan
