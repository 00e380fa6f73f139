"""Whether an evaluation is large enough to tell two methods apart that are so many points apart, and what would be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

import numpy as np

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import Outcomes
from fpa_verl.evaluation.power import (
    Variances,
    problems_needed,
    samples_needed,
    smallest_difference,
    variances_of_two_runs,
)
from fpa_verl.runs.run import Point


def all_draws(points: Sequence[Point]) -> Outcomes:
    """Right and sampled answers of every problem over some evaluations; what stands at step 0 of all counts once."""
    found: dict[str, tuple[int, int]] = {}
    for point in points[:1] if all(one.pooled for one in points) else points:
        for key, (right, sampled) in point.problems.items():
            before = found.get(key, (0, 0))
            found[key] = (before[0] + right, before[1] + sampled)
    return found


@dataclass(frozen=True)
class Telling:
    """What two evaluations of the same problems can tell.

    Attributes:
        problems, samples: asked of both, and answers to each.
        gap: by how much the first is ahead, a fraction of 1.
        shows: the smallest true difference that a test at 5 % finds with a chance of 80 %.
        problems_needed: so many, with as many samples, would show `gap`; None where there is none.
        samples_needed: so many of each of these problems would; None where no number does, or it is not known.
    """

    problems: int
    samples: int
    gap: float
    shows: float
    problems_needed: int | None
    samples_needed: int | None

    @property
    def asked(self) -> str:
        """The evaluation in words."""
        return f"{self.problems:,} problems x {self.samples} sample{'s' * (self.samples != 1)}"


def telling(first: Outcomes, second: Outcomes) -> Telling | None:
    """By the variances that the two show; None for fewer than two problems, and where all differ alike."""
    shared = [key for key in first if first[key][1] and second.get(key, (0, 0))[1]]
    if len(shared) < 2:
        return None
    differences = np.array([_share(first[key]) - _share(second[key]) for key in shared])
    samples = min(median_low([one[key][1] for key in shared]) for one in (first, second))
    try:
        variances, is_split = variances_of_two_runs(first, second), True
    except DatasetError:
        # One sample a problem: nobody knows how much of the variance more of them would remove.
        variances, is_split = Variances(float(differences.var(ddof=1)), 0.0), False
    if not variances.of_mean(len(shared), samples):
        return None
    gap = float(differences.mean())
    problems = samples_ = None
    if abs(gap) > 1e-9:
        problems = problems_needed(gap, variances, samples)
        samples_ = samples_needed(gap, variances, len(shared)) if is_split else None
    return Telling(len(shared), samples, gap, smallest_difference(variances, len(shared), samples), problems, samples_)


def _share(outcome: tuple[int, int]) -> float:
    right, sampled = outcome
    return right / sampled if sampled else math.nan
