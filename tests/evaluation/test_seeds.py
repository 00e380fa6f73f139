"""Intervals over seeds and problems, by hand, against scipy, and by how often they hold a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fpa_verl.evaluation.seeds import over_seeds, over_seeds_and_problems


def test_difference_by_hand_with_the_least_variance_of_problems():
    first = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], dtype=float)
    second = np.array([[0, 0, 0, 0], [1, 0, 0, 0]], dtype=float)
    found = over_seeds_and_problems(first, -second)
    # By problem 1/2, 1/2, 0, 0: variance 1/12, over 4 problems 1/48, which is under 1/16. Seeds: 1/2 and 1/4, 0 and
    # 1/4: variance 1/32, over 2 seeds 1/64 each. Together 1/16 + 1/32 = 3/32.
    assert found.value == 0.25
    assert found.standard_error == pytest.approx(math.sqrt(3 / 32))
    # (3/32)^2 / ((1/16)^2 / 3 + (1/64)^2 + (1/64)^2) = 54/11.
    assert found.degrees_of_freedom == pytest.approx(54 / 11)
    half = stats.t.ppf(0.975, 54 / 11) * math.sqrt(3 / 32)
    assert found.interval() == pytest.approx((0.25 - half, 0.25 + half))


def test_difference_by_hand_where_only_problems_differ():
    first = np.array([[1, 0, 0, 0], [1, 0, 0, 0]], dtype=float)
    second = np.array([[0, 1, 0, 0], [0, 1, 0, 0]], dtype=float)
    found = over_seeds_and_problems(first, -second)
    # By problem 1, -1, 0, 0: variance 2/3, over 4 problems 1/6, with 3 degrees of freedom: t = 3.182.
    assert (found.value, found.degrees_of_freedom) == (0.0, pytest.approx(3))
    assert found.interval() == pytest.approx((-3.182 * math.sqrt(1 / 6), 3.182 * math.sqrt(1 / 6)), abs=1e-3)


def test_one_seed_or_one_problem_tells_nothing_of_others():
    for shape in ((1, 4), (2, 1)):
        found = over_seeds_and_problems(np.ones(shape))
        assert found.value == 1.0
        assert all(map(math.isnan, found.interval()))
    assert all(map(math.isnan, over_seeds([1.0]).interval()))


def test_over_seeds_is_students_and_welchs_t():
    generator = np.random.default_rng(0)
    first, second = generator.normal(1, 2, 5), generator.normal(0, 0.5, 7)
    one = stats.ttest_1samp(first, 0).confidence_interval(0.9)
    assert over_seeds(first).interval(0.9) == pytest.approx((one.low, one.high))
    welch = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.9)
    assert over_seeds(first, -second).interval(0.9) == pytest.approx((welch.low, welch.high))
    assert over_seeds([1.0, 1.0]).interval() == (1.0, 1.0)


REPETITIONS, PROBLEMS, SEEDS, SAMPLES = 3000, 200, 5, 4
DIFFERENCE = 0.03


def simulated(generator, seed_spread, problem_spread, interaction):
    """Shares (SEEDS, PROBLEMS) of two methods whose accuracies differ by `DIFFERENCE`.

    Difficulty is shared, and a method does better or worse on a problem (`problem_spread`), in a seed
    (`seed_spread`), and in a seed on a problem (`interaction`). Everything is uniform and stays in 0 to 1.
    """

    def uniform(spread, *shape):
        return generator.uniform(-1, 1, shape) * spread * math.sqrt(3)

    difficulty = uniform(0.12, 1, PROBLEMS)
    for shift in (DIFFERENCE / 2, -DIFFERENCE / 2):
        own = uniform(problem_spread, 1, PROBLEMS) + uniform(seed_spread, SEEDS, 1)
        chance = 0.5 + shift + difficulty + own + uniform(interaction, SEEDS, PROBLEMS)
        yield generator.binomial(SAMPLES, chance) / SAMPLES


@pytest.mark.parametrize(
    ("seed_spread", "problem_spread", "interaction"),
    [(0.02, 0.05, 0.05), (0.04, 0.02, 0.0), (0.005, 0.08, 0.02)],
    ids=["both", "seeds above all", "problems above all"],
)
def test_intervals_hold_the_difference_as_often_as_they_say(seed_spread, problem_spread, interaction):
    """Never less than 93 %; more than 95 % because the noise of decoding is in two terms."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(REPETITIONS):
        first, second = simulated(generator, seed_spread, problem_spread, interaction)
        low, high = over_seeds_and_problems(first, -second).interval()
        held += low <= DIFFERENCE <= high
    assert 0.93 <= held / REPETITIONS <= 0.99, held / REPETITIONS


def test_without_the_term_of_seeds_they_would_hold_it_far_too_rarely():
    """So the simulation can tell: problems alone, as `--compare paired` has it, miss what another seed changes."""
    generator = np.random.default_rng(2)
    held = 0
    for _ in range(500):
        first, second = simulated(generator, 0.04, 0.02, 0.0)
        by_problem = first.mean(axis=0) - second.mean(axis=0)
        held += abs(by_problem.mean() - DIFFERENCE) <= 1.97 * by_problem.std(ddof=1) / math.sqrt(PROBLEMS)
    assert held / 500 < 0.8
