"""Pass@1 over problems that were each sampled several times (arXiv 2509.19893, Eq. 29-30)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Accuracy:
    """A mean over problems and its standard error, both as fractions of 1."""

    mean: float
    standard_error: float
    problems: int
    samples: int


def pass_at_1(outcomes: Mapping[str, tuple[int, int]]) -> Accuracy:
    """Mean over problems of the share of right samples.

    The standard error is that of a mean over problems, so that samples of one problem, which are
    alike, do not count as independent:  sd(p_i) / sqrt(n) with n - 1 in the variance.

    Args:
        outcomes: problem id to (right, sampled); problems without samples are left out.
    """
    shares = [right / sampled for right, sampled in outcomes.values() if sampled]
    n = len(shares)
    if not n:
        return Accuracy(math.nan, math.nan, 0, 0)
    mean = sum(shares) / n
    variance = sum((share - mean) ** 2 for share in shares) / (n - 1) if n > 1 else math.nan
    samples = sum(sampled for _, sampled in outcomes.values())
    return Accuracy(mean, math.sqrt(variance / n), n, samples)
