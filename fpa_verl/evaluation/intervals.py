"""Confidence intervals of an accuracy whose samples come several to a problem.

Shapes: n problems on the last axis; leading axes are evaluations that are treated alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]

# Of every interval that is shown, unless it says otherwise.
LEVEL = 0.95

# Weight, in squared informative problems, of the assumption that samples of one problem are all alike.
ALIKE_WEIGHT = 4.0


def clustered_wilson(shares: Array, samples: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """Wilson's interval of a mean over problems, with an effective number of samples.

    Wilson's interval asks which accuracies p would have the mean found no further away than t standard
    errors, with the variance that p itself implies. For n independent samples that is p (1 - p) / n;
    for problems sampled K times it is p (1 - p) v / n, where v, between 1/K (samples of one problem
    are as different as any) and 1 (they are all alike), is measured:

        v = s^2 / (p (1 - p))        s^2 the variance of the problems' shares, n - 1 below

    so that n / v is the effective number of samples. Near accuracy 0 or 1 only few problems tell
    anything about v, and it is drawn towards 1, the widest interval:

        v' = (m^2 v + 4) / (m^2 + 4)      m problems have a right sample, or a wrong one if those are fewer

    With every sample right or wrong, v' = 1: Wilson's interval of n independent samples. t is
    Student's quantile with n - 1 degrees of freedom. With one sample a problem and a large n it is
    Wilson's interval itself.

    Args:
        shares: (..., n) share of right samples of each problem, or any mean in [0, 1] of its samples.
        samples: (..., n) or (n,) samples of each problem, at least 1.
        level: the interval's nominal coverage.

    Returns:
        Lower and upper ends, each (...); 0 and 1 for a single problem, which says nothing of others.
    """
    n = shares.shape[-1]
    mean = shares.mean(axis=-1)
    if n < 2:
        return np.zeros_like(mean), np.ones_like(mean)
    z2 = quantile(level, n) ** 2
    effective = n / variance_share(shares, samples)
    centre = (mean + z2 / (2 * effective)) / (1 + z2 / effective)
    half = np.sqrt(z2 * (mean * (1 - mean) / effective + z2 / (4 * effective**2))) / (1 + z2 / effective)
    # At accuracy 0 and 1 an end is exactly there; rounding must not put it beside.
    low = np.where(mean == 0, 0.0, centre - half)
    high = np.where(mean == 1, 1.0, centre + half)
    return np.clip(low, 0.0, mean), np.clip(high, mean, 1.0)


def variance_share(shares: Array, samples: Array) -> Array:
    """The v' of `clustered_wilson`: the variance of a problem's share over p (1 - p), between 0 and 1."""
    mean = shares.mean(axis=-1)
    widest = mean * (1 - mean)
    smallest = (1.0 / samples).mean(axis=-1)
    measured = shares.var(axis=-1, ddof=1) / np.where(widest > 0, widest, 1.0)
    informative = np.minimum((shares > 0).sum(axis=-1), (shares < 1).sum(axis=-1)) ** 2
    return (informative * np.clip(measured, smallest, 1.0) + ALIKE_WEIGHT) / (informative + ALIKE_WEIGHT)


def difference_interval(
    first: Array, second: Array, first_samples: Array, second_samples: Array, level: float = LEVEL
) -> tuple[Array, Array]:
    """Interval of the difference of two accuracies on the same problems, first minus second.

    Newcombe's square-and-add (Statistics in Medicine 17, 1998, method 10) with `clustered_wilson` in
    the place of Wilson's intervals: with ends l and u of each run's own interval and r the correlation
    of the shares over problems,

        low  = d - sqrt(a^2 + b^2 - 2 r a b)      a = p1 - l1, b = u2 - p2
        high = d + sqrt(a^2 + b^2 - 2 r a b)      a = u1 - p1, b = p2 - l2

    Where the runs' intervals are symmetric this is d -+ t sd(d_i) / sqrt(n); where a run has all
    right or all wrong it stays an interval. A positive covariance is lowered by 1 / (2 n K), Newcombe's
    continuity correction, K the fewer of the two runs' samples a problem.

    Args:
        first: (..., n) shares of right samples.
        second: (..., n), the same problems in the same order.
        first_samples: (..., n) or (n,) samples of each problem.
        second_samples: likewise.
        level: the interval's nominal coverage.
    """
    n = first.shape[-1]
    p1, p2 = first.mean(axis=-1), second.mean(axis=-1)
    (low1, high1), (low2, high2) = (
        clustered_wilson(first, first_samples, level),
        clustered_wilson(second, second_samples, level),
    )
    covariance = ((first - p1[..., None]) * (second - p2[..., None])).mean(axis=-1)
    grain = np.maximum((1.0 / first_samples).mean(axis=-1), (1.0 / second_samples).mean(axis=-1)) / (2 * n)
    covariance = np.where(covariance > 0, np.maximum(covariance - grain, 0.0), covariance)
    scale = first.std(axis=-1) * second.std(axis=-1)
    r = np.where(scale > 0, covariance / np.where(scale > 0, scale, 1.0), 0.0)

    def reach(a: Array, b: Array) -> Array:
        return np.sqrt(np.maximum(a**2 + b**2 - 2 * r * a * b, 0.0))

    d = p1 - p2
    return d - reach(p1 - low1, high2 - p2), d + reach(high1 - p1, p2 - low2)


def quantile(level: float, n: int) -> float:
    """Student's two-sided quantile for the mean over n problems."""
    return float(special.stdtrit(n - 1, 0.5 + level / 2))
