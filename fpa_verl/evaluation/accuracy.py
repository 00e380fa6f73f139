"""Pass@1, pass@k and maj@k over problems that were each sampled several times."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fpa_verl.evaluation.intervals import LEVEL, clustered_wilson

# Problem id to (right, sampled).
Outcomes = Mapping[str, tuple[int, int]]
# Problem id to (answer, right) of every sample; None is a sample without an answer.
Votes = Mapping[str, Sequence[tuple[Hashable | None, bool]]]


@dataclass(frozen=True)
class Accuracy:
    """A mean over problems with its error, all as fractions of 1.

    Attributes:
        standard_error: sd over problems / sqrt(problems).
        interval: (low, high) of `intervals.clustered_wilson`, right also near 0 and 1.
        problems: how many are in the mean.
        samples: answers to those problems together.
    """

    mean: float
    standard_error: float
    interval: tuple[float, float]
    problems: int
    samples: int


def pass_at_1(outcomes: Outcomes, level: float = LEVEL) -> Accuracy:
    """Mean over problems of the share of right samples (arXiv 2509.19893, Eq. 29).

    The standard error is that of a mean over problems, so that samples of one problem, which are
    alike, do not count as independent:  sd(p_i) / sqrt(n) with n - 1 in the variance. The paper's
    (Eq. 30) is the spread of its passes over the same problems, and does not hold the choice of these.

    Args:
        outcomes: problem id to (right, sampled); problems without samples are left out.
        level: nominal coverage of the interval.
    """
    return pass_at_k(outcomes, 1, level)


def pass_at_k(outcomes: Outcomes, k: int, level: float = LEVEL) -> Accuracy:
    """Mean over problems of the chance that one of k samples is right.

    Without bias from K >= k samples of which c are right:  1 - C(K - c, k) / C(K, k)
    (arXiv 2107.03374, Eq. 1). Problems with fewer than k samples are left out, and `problems` says how
    many are in.
    """
    if k < 1:
        raise ValueError(f"pass@k wants k >= 1, not {k}")
    enough = [(right, sampled) for right, sampled in outcomes.values() if sampled >= k]
    values = [1 - math.comb(sampled - right, k) / math.comb(sampled, k) for right, sampled in enough]
    return _mean_over_problems(values, [sampled for _, sampled in enough], level)


def maj_at_k(votes: Votes, k: int, level: float = LEVEL) -> Accuracy:
    """Mean over problems of the chance that the most frequent answer of k samples is right.

    Answers vote together where they compare equal: give them normalised. A sample without an answer
    (None) takes one of the k places and does not vote; where none votes, the majority is wrong. Ties
    are broken at random: each of the answers that share the first place counts by its equal share.
    An answer that was scored both right and wrong, as by a scorer that judges the form as well, counts
    by the share of its samples that were right: over all choices, the same as that of those chosen.
    From K > k samples the mean over all choices of k is taken exactly. Problems with fewer than k
    samples are left out.
    """
    if k < 1:
        raise ValueError(f"maj@k wants k >= 1, not {k}")
    enough = [ballots for ballots in votes.values() if len(ballots) >= k]
    values = [_chance_of_right_majority(ballots, k) for ballots in enough]
    return _mean_over_problems(values, [len(ballots) for ballots in enough], level)


def _chance_of_right_majority(ballots: Sequence[tuple[Hashable | None, bool]], k: int) -> float:
    counts = Counter(answer for answer, _ in ballots if answer is not None)
    right = Counter(answer for answer, is_right in ballots if answer is not None and is_right)
    silent = len(ballots) - counts.total()
    favourable = sum(
        _ways_to_win(counts[answer], [c for other, c in counts.items() if other != answer], silent, k)
        * (rights / counts[answer])
        for answer, rights in right.items()
    )
    return favourable / math.comb(len(ballots), k)


def _ways_to_win(count: int, others: list[int], silent: int, k: int) -> float:
    """Choices of k samples in which an answer with `count` samples comes first; a tie of u + 1 counts 1 / (u + 1).

    For every number t of votes that may be enough, `ways[u, s]` counts the choices of s samples from
    the rest in which u others have t votes too and none has more.
    """
    total = 0.0
    for t in range(1, min(count, k) + 1):
        rest = k - t
        ways = np.zeros((len(others) + 1, rest + 1))
        ways[0] = [math.comb(silent, s) for s in range(rest + 1)]
        for other in others:
            before, ways = ways, np.zeros_like(ways)
            for s in range(min(other, t, rest) + 1):
                chosen = math.comb(other, s) * before[:, : rest + 1 - s]
                if s < t:
                    ways[:, s:] += chosen
                else:
                    ways[1:, s:] += chosen[:-1]
        total += math.comb(count, t) * float((ways[:, rest] / np.arange(1, len(others) + 2)).sum())
    return total


def _mean_over_problems(values: list[float], samples: list[int], level: float) -> Accuracy:
    n = len(values)
    if not n:
        return Accuracy(math.nan, math.nan, (math.nan, math.nan), 0, 0)
    shares = np.array(values)
    error = float(shares.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    low, high = clustered_wilson(shares, np.array(samples, dtype=float), level)
    return Accuracy(float(shares.mean()), error, (float(low), float(high)), n, sum(samples))
