"""Two runs on the same problems: their difference, its interval and its p-value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation.accuracy import Outcomes
from fpa_verl.evaluation.intervals import LEVEL, difference_interval

# Additions that the exact test may take (about half a second); beyond, Student's t.
MAX_ADDITIONS = 500_000_000


@dataclass(frozen=True)
class PairedDifference:
    """Accuracy of the first run less that of the second, over the problems that both sampled.

    Attributes:
        standard_error: sd over problems of the differences / sqrt(problems).
        interval: (low, high) of `intervals.difference_interval`.
        p_value: two-sided, for runs that do not differ.
        test: how p_value was computed.
        problems: shared and in the mean.
        unshared: problems that only one of the two runs sampled.
    """

    difference: float
    standard_error: float
    interval: tuple[float, float]
    p_value: float
    test: Literal["sign-flip", "t"]
    problems: int
    unshared: int


def paired_difference(first: Outcomes, second: Outcomes, level: float = LEVEL) -> PairedDifference:
    """Compare two runs problem by problem.

    A problem is the unit: its samples are averaged before anything else. The p-value is that of the
    exact sign-flip test: if the runs do not differ, each problem's difference is as likely with the
    other sign, so the share of all 2^n sign patterns whose sum is at least as far from 0 as the one
    found is counted, by convolution and without chance. Where the sample counts have no small common
    multiple, which makes that long, it is Student's t with n - 1 degrees of freedom.

    Args:
        first: problem id to (right, sampled); problems without samples are left out.
        second: likewise.
        level: nominal coverage of the interval.

    Raises:
        DatasetError: fewer than two problems are shared.
    """
    sampled = [{key for key, (_, count) in run.items() if count} for run in (first, second)]
    shared = sorted(sampled[0] & sampled[1])
    n = len(shared)
    if n < 2:
        raise DatasetError(
            f"the two runs share {n} sampled problem{'s' * (n != 1)}, and a comparison needs two: evaluate both on "
            "the same problem set"
        )
    pairs = [(first[key], second[key]) for key in shared]
    p1, p2 = (np.array([pair[i][0] / pair[i][1] for pair in pairs]) for i in (0, 1))
    k1, k2 = (np.array([float(pair[i][1]) for pair in pairs]) for i in (0, 1))
    differences = p1 - p2
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    low, high = difference_interval(p1, p2, k1, k2, level)
    exact = _sign_flip_p_value(_on_common_denominator(pairs))
    return PairedDifference(
        difference=float(differences.mean()),
        standard_error=error,
        interval=(float(low), float(high)),
        p_value=_t_p_value(float(differences.mean()), error, n) if exact is None else exact,
        test="t" if exact is None else "sign-flip",
        problems=n,
        unshared=len(sampled[0] ^ sampled[1]),
    )


def _on_common_denominator(pairs: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> list[int]:
    """The problems' differences as whole numbers: times a multiple of all sample counts."""
    denominator = math.lcm(*{count for pair in pairs for _, count in pair})
    return [r1 * (denominator // k1) - r2 * (denominator // k2) for (r1, k1), (r2, k2) in pairs]


def _sign_flip_p_value(differences: list[int]) -> float | None:
    """P(|sum of +-d_i| >= |sum of d_i|) over all signs; None where that would take too long."""
    common = math.gcd(*differences) or 1
    sizes = [abs(d) // common for d in differences if d]
    observed, most = abs(sum(differences)) // common, sum(sizes)
    # Counted as 100 problems at least, so that few problems of huge sums do not fill the memory.
    if max(100, len(sizes)) * (most + 1) > MAX_ADDITIONS:
        return None
    # chance[s]: the d_i with a plus sum to s; the signed sum is then 2 s - most.
    chance = np.zeros(most + 1)
    chance[0] = 1.0
    reached = 0
    for size in sizes:
        chance[: reached + size + 1] *= 0.5
        chance[size : reached + size + 1] += chance[: reached + 1].copy()
        reached += size
    signed = 2 * np.arange(most + 1) - most
    return min(1.0, float(chance[np.abs(signed) >= observed].sum()))


def _t_p_value(difference: float, error: float, n: int) -> float:
    if not error:
        return 1.0 if not difference else 0.0
    return float(2 * special.stdtr(n - 1, -abs(difference) / error))
