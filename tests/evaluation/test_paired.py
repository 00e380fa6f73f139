from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import paired, paired_difference


def test_by_hand():
    first = {"a": (4, 4), "b": (3, 4), "c": (2, 4), "only here": (1, 4)}
    second = {"a": (2, 4), "b": (3, 4), "c": (1, 4), "only there": (0, 4), "never sampled": (0, 0)}
    result = paired_difference(first, second)
    # Differences 1/2, 0, 1/4: mean 1/4, variance 1/16, standard error sqrt(1/48).
    assert result.difference == pytest.approx(0.25)
    assert result.standard_error == pytest.approx(math.sqrt(1 / 48))
    # Signs of 1/2 and 1/4: sums +-3/4 and +-1/4; two of four are as far from 0 as 3/4.
    assert (result.p_value, result.test) == (0.5, "sign-flip")
    assert (result.problems, result.unshared) == (3, 2)
    low, high = result.interval
    assert low < 0.25 < high


def test_swapping_the_runs_turns_the_sign():
    generator = np.random.default_rng(0)
    first, second = ({str(i): (int(r), 8) for i, r in enumerate(generator.integers(0, 9, 50))} for _ in range(2))
    forth, back = paired_difference(first, second), paired_difference(second, first)
    assert back.difference == -forth.difference
    assert back.interval == pytest.approx((-forth.interval[1], -forth.interval[0]))
    assert back.p_value == pytest.approx(forth.p_value)


def test_sign_flips_are_counted_exactly():
    """Against all 2^10 patterns, with two sample counts."""
    generator = np.random.default_rng(3)
    counts = [(4, 6)[i % 2] for i in range(10)]
    first, second = ({str(i): (int(generator.integers(0, k + 1)), k) for i, k in enumerate(counts)} for _ in range(2))
    differences = np.array([first[key][0] / first[key][1] - second[key][0] / second[key][1] for key in first])
    sums = np.array(list(product((-1, 1), repeat=10))) @ differences
    expected = (np.abs(sums) >= abs(differences.sum()) - 1e-9).mean()
    assert paired_difference(first, second).p_value == pytest.approx(expected)


def test_one_sample_a_problem_is_mcnemars_exact_test():
    # 9 problems only the first solves, 2 only the second, 30 both: binomial(11, 1/2).
    first = {str(i): (int(i < 39), 1) for i in range(41)}
    second = {str(i): (int(i >= 9), 1) for i in range(41)}
    assert paired_difference(first, second).p_value == pytest.approx(stats.binomtest(9, 11).pvalue)


def test_the_same_run_twice():
    run = {str(i): (8, 8) for i in range(40)}
    result = paired_difference(run, run)
    assert (result.difference, result.p_value) == (0.0, 1.0)
    # Nothing wrong in 40 problems still leaves room for a few in a hundred either way.
    assert result.interval[0] == pytest.approx(-result.interval[1])
    assert 0.05 < result.interval[1] < 0.2


def test_many_problems_and_small_p_values():
    # 600 of 5,000 problems differ, all one way: 2^-599; and time does not grow with the patterns.
    first = {str(i): (8, 8) for i in range(5000)}
    second = {str(i): (8 - (i < 600), 8) for i in range(5000)}
    assert paired_difference(first, second).p_value == pytest.approx(2.0**-599)


def test_students_t_where_sample_counts_have_no_small_common_multiple():
    generator = np.random.default_rng(4)
    counts = generator.integers(25, 33, 200)
    first, second = ({str(i): (int(generator.integers(0, k + 1)), int(k)) for i, k in enumerate(counts)} for _ in "ab")
    result = paired_difference(first, second)
    differences = [first[key][0] / first[key][1] - second[key][0] / second[key][1] for key in first]
    assert result.test == "t"
    assert result.p_value == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_students_t_and_sign_flips_nearly_agree(monkeypatch):
    generator = np.random.default_rng(4)
    first, second = ({str(i): (int(r), 8) for i, r in enumerate(generator.integers(0, 9, 60))} for _ in "ab")
    exact = paired_difference(first, second)
    monkeypatch.setattr(paired, "MAX_ADDITIONS", 0)
    approximate = paired_difference(first, second)
    assert (exact.test, approximate.test) == ("sign-flip", "t")
    assert approximate.p_value == pytest.approx(exact.p_value, abs=0.02)


def test_p_values_of_equal_runs_are_uniform_or_larger():
    """At most 5 % of comparisons of a model with itself come out below 0.05; 7 % allows for chance."""
    generator = np.random.default_rng(5)
    accuracies = generator.beta(0.5, 0.3, size=(400, 60))
    below = 0
    for truth in accuracies:
        runs = [{str(i): (int(r), 8) for i, r in enumerate(generator.binomial(8, truth))} for _ in "ab"]
        below += paired_difference(*runs).p_value < 0.05
    assert 0.02 <= below / 400 <= 0.07


@pytest.mark.parametrize(
    ("second", "shared"), [({"b": (1, 2)}, "0 sampled problems"), ({"a": (1, 2)}, "1 sampled pro")]
)
def test_too_few_shared_problems(second, shared):
    with pytest.raises(DatasetError, match=shared):
        paired_difference({"a": (1, 2)}, second)
