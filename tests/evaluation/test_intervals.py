from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from fpa_verl.evaluation import pass_at_1
from fpa_verl.evaluation.intervals import clustered_wilson, difference_interval, variance_share
from tests.evaluation.simulation import evaluations, population

# (problems, samples of each) of AIME, AMC, the demo, MATH500, and one sample a problem.
DESIGNS = [(30, 32), (40, 8), (128, 2), (500, 8), (300, 1)]


def wilson(right: int, n: int, quantile: float) -> tuple[float, float]:
    """Wilson 1927, as textbooks have it."""
    p, z2 = right / n, quantile**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = quantile / (1 + z2 / n) * np.sqrt(p * (1 - p) / n + z2 / (4 * n**2))
    return centre - half, centre + half


@pytest.mark.parametrize("right", [0, 1, 30, 99, 100])
def test_one_sample_a_problem_is_wilsons_interval(right):
    shares = np.repeat([1.0, 0.0], [right, 100 - right])
    # p (1 - p) n / (n - 1) is a hundredth too wide a variance, which v <= 1 takes off again.
    expected = wilson(right, 100, special.stdtrit(99, 0.975))
    assert clustered_wilson(shares, np.ones(100)) == pytest.approx(expected, abs=1e-12)


def test_all_right_is_as_if_every_problem_had_one_sample():
    # 0 of 40 wrong: Wilson's lower end n / (n + t^2) with t = 2.0227 for 39 degrees: 40 / 44.0913.
    low, high = pass_at_1({str(i): (8, 8) for i in range(40)}).interval
    assert (low, high) == (pytest.approx(40 / 44.0913, abs=1e-5), 1.0)
    low, high = pass_at_1({str(i): (0, 8) for i in range(40)}).interval
    assert (low, high) == (0.0, pytest.approx(4.0913 / 44.0913, abs=1e-5))


def test_more_samples_that_are_alike_do_not_narrow_it():
    once, often = ({str(i): (k * (i < 20), k) for i in range(40)} for k in (1, 64))
    assert pass_at_1(once).interval == pytest.approx(pass_at_1(often).interval)


def test_variance_share_by_hand():
    shares = np.array([[1, 1, 0.5, 0, 0], [0.5, 0.5, 0.5, 0.5, 0.5]])
    # First row: mean 0.5, s^2 = (4 * 0.25) / 4 = 0.25, v = 1. Second: s^2 = 0, so v = 1/4, the least of four
    # samples; m = 5: (25 / 4 + 4) / (25 + 4).
    assert variance_share(shares, np.full(5, 4.0)) == pytest.approx([1.0, 10.25 / 29])


def test_one_problem_says_nothing_of_others():
    assert pass_at_1({"a": (3, 4)}).interval == (0.0, 1.0)


def test_it_widens_with_the_level():
    outcomes = {str(i): (i % 5, 4) for i in range(25)}
    (low90, high90), (low99, high99) = (pass_at_1(outcomes, level).interval for level in (0.9, 0.99))
    assert 0 < low99 < low90 < pass_at_1(outcomes).mean < high90 < high99 < 1


@pytest.mark.patient
@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("problems", "samples"), DESIGNS)
def test_the_interval_covers(problems, samples, correlation):
    """95 % intervals hold the truth in 92 to 98 % of evaluations; near 0 and 1 they may be too wide."""
    generator = np.random.default_rng(0)
    for accuracy in (0.01, 0.05, 0.2, 0.5, 0.8, 0.99):
        models = population(generator, [accuracy], correlation)
        (shares,), truth = evaluations(generator, models, 1000, problems, samples), models.mean()
        low, high = clustered_wilson(shares, np.full(problems, float(samples)))
        covered = ((low <= truth) & (truth <= high)).mean()
        at_most = 0.98 if 0.2 <= accuracy <= 0.8 else 1.0
        assert 0.92 <= covered <= at_most, (accuracy, covered)


def test_the_worst_that_can_happen():
    """Exact coverage for samples that are all alike, over accuracies: Wilson's known dip is near one right in six sets.

    With 40 problems the least is 85 %, at accuracy 0.004; from 0.05 to 0.5 it is 93.8 %.
    """
    n, right = 40, np.arange(41)
    low, high = clustered_wilson(np.tril(np.ones((n + 1, n)), -1), np.ones(n))
    accuracies = np.linspace(0.0005, 0.5, 2000)[:, None]
    held = (low <= accuracies) & (accuracies <= high)
    covered = (special.comb(n, right) * accuracies**right * (1 - accuracies) ** (n - right) * held).sum(axis=1)
    assert covered.min() == pytest.approx(0.85, abs=0.01)
    assert covered[accuracies[:, 0] > 0.05].min() == pytest.approx(0.938, abs=0.003)


def test_a_normal_interval_would_not_cover():
    """What Wilson's part is for: at accuracy 0.99 the mean +- 1.96 standard errors misses every fourth time."""
    generator = np.random.default_rng(0)
    models = population(generator, [0.99], correlation=0.5)
    (shares,) = evaluations(generator, models, 2000, problems=40, samples=8)
    half = 1.96 * shares.std(axis=1, ddof=1) / np.sqrt(40)
    assert (np.abs(shares.mean(axis=1) - models.mean()) <= half).mean() < 0.8


@pytest.mark.parametrize("agreement", [0.0, 0.8, 0.98])
@pytest.mark.parametrize(("problems", "samples"), DESIGNS)
def test_the_interval_of_a_difference_covers(problems, samples, agreement):
    generator = np.random.default_rng(1)
    k = np.full(problems, float(samples))
    for correlation in (0.01, 0.5, 1.0):
        for accuracies in ((0.05, 0.02), (0.3, 0.3), (0.75, 0.7), (0.99, 0.99)):
            models = population(generator, accuracies, correlation, agreement)
            first, second = evaluations(generator, models, 600, problems, samples)
            truth = models[0].mean() - models[1].mean()
            low, high = difference_interval(first, second, k, k)
            covered = ((low <= truth) & (truth <= high)).mean()
            assert covered >= 0.92, (correlation, accuracies, covered)


def test_away_from_the_edges_the_difference_has_students_interval():
    generator = np.random.default_rng(2)
    shares = [generator.binomial(16, 0.5, size=2000) / 16 for _ in range(2)]
    k = np.full(2000, 16.0)
    low, high = difference_interval(*shares, k, k)
    differences = shares[0] - shares[1]
    half = special.stdtrit(1999, 0.975) * differences.std(ddof=1) / np.sqrt(2000)
    assert (low, high) == pytest.approx((differences.mean() - half, differences.mean() + half), rel=0.02)
