from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import power
from fpa_verl.evaluation.power import Variances
from tests.evaluation.simulation import evaluations, population

PILOT = Variances(between=0.05, within=0.16)


def test_variance_of_the_mean_by_hand():
    # (0.05 + 0.16 / 8) / 500 = 0.07 / 500.
    assert PILOT.of_mean(500, 8) == pytest.approx(0.00014)


def test_problems_needed_by_hand():
    # Normal approximation: (1.959964 + 0.841621)^2 * 0.07 / 0.02^2 = 1373.6; Student's t adds about 2.
    assert power.problems_needed(0.02, PILOT, samples=8) in (1375, 1376, 1377)
    # Half the difference takes four times the problems.
    ratio = power.problems_needed(0.01, PILOT, 8) / power.problems_needed(0.02, PILOT, 8)
    assert ratio == pytest.approx(4, rel=0.01)


def test_the_answers_agree_with_each_other():
    for samples in (1, 4, 32):
        n = power.problems_needed(0.03, PILOT, samples, wanted=0.9)
        assert power.power(0.03, PILOT, n, samples) >= 0.9 > power.power(0.03, PILOT, n - 1, samples)
        assert power.smallest_difference(PILOT, n, samples, wanted=0.9) == pytest.approx(0.03, rel=1e-3)
        assert power.samples_needed(0.03, PILOT, n, wanted=0.9) == samples


def test_samples_cannot_replace_problems():
    # 30 problems: 0.05 between them alone leaves a standard error of sqrt(0.05 / 30) = 0.041.
    assert power.samples_needed(0.03, PILOT, problems=30) is None
    # It takes 2.9 standard errors. One sample: 0.2 / sqrt(0.21 / 30) = 2.4; two: 0.2 / sqrt(0.13 / 30) = 3.04.
    assert power.samples_needed(0.2, PILOT, problems=30) == 2


def test_requirements_are_a_grid():
    found = power.requirements(PILOT, differences=(0.05, 0.02), samples=(1, 8))
    assert [(r.difference, r.samples) for r in found] == [(0.05, 1), (0.05, 8), (0.02, 1), (0.02, 8)]
    assert found[3].problems == power.problems_needed(0.02, PILOT, 8)


def test_variances_of_two_runs_by_hand():
    # Shares 1/2, 1/2 and 1, 1/2: differences -1/2, 0, variance 1/8.
    # Unbiased variance of one sample: 1/2 for a share of 1/2 of 2 samples, 0 for 1.
    # within = ((1/2 + 0) + (1/2 + 1/2)) / 2 = 3/4; explained = 3/4 / 2 = 3/8 > 1/8: nothing between.
    first, second = {"a": (1, 2), "b": (1, 2)}, {"a": (2, 2), "b": (1, 2)}
    assert power.variances_of_two_runs(first, second) == Variances(between=0.0, within=0.75)


def test_variances_of_one_run_by_hand():
    # Shares 1, 1, 0, 0 of 4 samples: variance 1/3, none of it within; two runs that agree by 0.4.
    outcomes = {"a": (4, 4), "b": (4, 4), "c": (0, 4), "d": (0, 4), "too few": (1, 1)}
    found = power.variances_of_one_run(outcomes, agreement=0.4)
    assert (found.between, found.within) == (pytest.approx(2 * 0.6 / 3), 0.0)


def test_default_variances_by_hand():
    # p (1 - p) = 0.21; 2 * 0.2 * 0.6 * 0.21 between, 2 * 0.4 * 0.21 within.
    found = power.default_variances(accuracy=0.7, alikeness=0.6, agreement=0.8)
    assert (found.between, found.within) == (pytest.approx(0.0504), pytest.approx(0.168))


def test_a_pilot_finds_the_variances_again():
    generator = np.random.default_rng(0)
    models = population(generator, (0.7, 0.65), correlation=0.5, agreement=0.8)
    shares = evaluations(generator, models, draws=1, problems=20000, samples=4)[:, 0]
    first, second = ({str(i): (round(4 * share), 4) for i, share in enumerate(run)} for run in shares)
    found = power.variances_of_two_runs(first, second)
    assert found.between == pytest.approx((models[0] - models[1]).var(), rel=0.05)
    assert found.within == pytest.approx((models * (1 - models)).mean(axis=1).sum(), rel=0.02)


def test_a_pilot_must_have_samples():
    once = {"a": (1, 1), "b": (0, 1)}
    with pytest.raises(DatasetError, match="at least twice"):
        power.variances_of_one_run(once)
    with pytest.raises(DatasetError, match="at least twice"):
        power.variances_of_two_runs(once, once)


@pytest.mark.parametrize(("problems", "samples"), [(500, 8), (120, 2), (60, 32)])
def test_the_power_is_what_simulation_finds(problems, samples):
    generator = np.random.default_rng(1)
    models = population(generator, (0.66, 0.6), correlation=0.5, agreement=0.8)
    difference = models[0].mean() - models[1].mean()
    variances = Variances((models[0] - models[1]).var(), (models * (1 - models)).mean(axis=1).sum())
    shares = evaluations(generator, models, 3000, problems, samples)
    differences = shares[0] - shares[1]
    t = differences.mean(axis=1) / (differences.std(axis=1, ddof=1) / np.sqrt(problems))
    found = (np.abs(t) > special.stdtrit(problems - 1, 0.975)).mean()
    # Four standard errors of a share of 3,000 draws are 0.036 at most.
    assert found == pytest.approx(power.power(difference, variances, problems, samples), abs=0.036)


def test_without_a_difference_the_power_is_the_error_rate():
    assert power.power(0.0, PILOT, 100, 8) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="difference of 0"):
        power.problems_needed(0.0, PILOT, 8)
