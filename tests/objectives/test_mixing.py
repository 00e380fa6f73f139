"""The estimated moments: unbiased by listing all draws, and alpha on a toy against the exact one."""

from __future__ import annotations

from dataclasses import astuple, replace
from itertools import product
from statistics import fmean, stdev

import pytest
import torch

from fpa_verl.objectives import mixing
from fpa_verl.objectives.mixing import Estimate, Moments, estimate
from tests.objectives.bvpo_toy import OFF, one_prompt, sampled, several_prompts

MOMENTS = Moments(0.01, 0.1, 0.04, 0.02, -0.015, 0.005)


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- the weight ---------------------------------------------------------------------------------


def test_the_weight_by_hand():
    # M_t .11, M_e .06, C -.01: .07 / .19, and an error of (.0066 - .0001) / .19.
    assert MOMENTS.unclipped() == pytest.approx(0.07 / 0.19)
    assert MOMENTS.error(MOMENTS.alpha()) == pytest.approx(0.0065 / 0.19)
    # Ten pairs of each: M_t .02, M_e .042, C -.0145.
    assert MOMENTS.at(10).unclipped() == pytest.approx(0.0565 / 0.091)
    # Ten with traces and five empty: M_e .044.
    assert MOMENTS.at(10, 5).unclipped() == pytest.approx(0.0585 / 0.093)


def test_squared_biases_that_cannot_be_are_0():
    moments = replace(MOMENTS, trace_bias=-0.01, cross_bias=0.02)
    assert moments.trace_error == 0.1
    # A bias of 0 has no inner product but 0.
    assert moments.cross_error == 0.005
    # Two of .1 and .2 have one of at most .02.
    assert replace(MOMENTS, cross_bias=-0.5).cross_error == pytest.approx(-0.02 + 0.005)
    assert replace(MOMENTS, empty_bias=-1.0).empty_error == 0.02


def test_where_both_gradients_are_the_same_any_weight_is():
    same = Moments(0.01, 0.1, 0.01, 0.1, 0.01, 0.1)
    assert same.unclipped() == same.alpha() == 0.5
    assert same.error(0) == same.error(1) == pytest.approx(0.11)
    assert same.alpha(low=0.6, high=0.9) == 0.6
    assert Moments(0, 0, 0, 0, 0).alpha() == 0.5
    # Rounding does not decide.
    gradients = rows(20, 7).float()
    assert estimate(gradients, gradients * (1 + 1e-7), rows(20, 7, seed=1).float(), matched=True).moments.alpha() == 0.5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: replace(MOMENTS, cross_bias=float("nan")), "must be finite"),
        (lambda: replace(MOMENTS, trace_bias=float("inf")), "must be finite"),
        (lambda: replace(MOMENTS, empty_variance=-0.1), "is not negative"),
        (lambda: MOMENTS.at(0), "at least one pair of each; got 0 and 0"),
        (lambda: MOMENTS.at(2, 0), "got 2 and 0"),
        (lambda: MOMENTS.alpha(0.5, 0.4), r"within \[0, 1\]; got \[0.5, 0.4\]"),
        (lambda: MOMENTS.alpha(high=1.1), "within"),
        (lambda: estimate(rows(4, 3), rows(4, 2), rows(4, 3)), r"got \(4, 3\) with traces, \(4, 2\) with empty ones"),
        (lambda: estimate(rows(4, 3), rows(4, 3), rows(5, 3)), "must be"),
        (lambda: estimate(rows(4), rows(4), rows(4)), "must be"),
        (lambda: estimate(rows(4, 3), rows(5, 3), rows(4, 3), matched=True), "come row by row"),
        (lambda: estimate(rows(4, 3), rows(2, 3), rows(4, 3)), "at least 3 pairs of each kind"),
        (lambda: estimate(rows(4, 3), rows(4, 3), rows(4, 3) / 0), "must be finite"),
    ],
)
def test_what_makes_no_sense_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# ---- the estimate -------------------------------------------------------------------------------


def exact(trace, empty, marginal, matched) -> list[float]:
    """Moments of rows that are drawn uniformly, with their own row or another."""
    trace_bias, empty_bias = trace.mean(0) - marginal.mean(0), empty.mean(0) - marginal.mean(0)
    cross = ((trace - trace.mean(0)) * (empty - empty.mean(0))).sum(1).mean() if matched else torch.zeros(())
    spread = [(part - part.mean(0)).square().sum(1).mean() for part in (trace, empty)]
    values = (trace_bias @ trace_bias, spread[0], empty_bias @ empty_bias, spread[1], trace_bias @ empty_bias, cross)
    return [value.item() for value in values]


@pytest.mark.parametrize(("matched", "n", "n_empty"), [(True, 4, 4), (False, 4, 3)], ids=["matched", "independent"])
def test_unbiased_over_all_draws(matched, n, n_empty):
    """Three outcomes; the marginal gradient hangs together with the others, as traces that are used twice make it."""
    trace, empty = rows(3, 5), rows(3, 5, seed=1)
    marginal = 0.5 * trace + 0.3 * rows(3, 5, seed=2)
    found = []
    for drawn in product(range(3), repeat=n):
        pairs = list(drawn)
        for others in [pairs] if matched else map(list, product(range(3), repeat=n_empty)):
            moments = _only_moments(trace[pairs], empty[others], marginal[pairs], matched)
            found.append(astuple(moments))
    assert [fmean(column) for column in zip(*found, strict=True)] == pytest.approx(
        exact(trace, empty, marginal, matched), rel=1e-9, abs=1e-12
    )
    # Of a squared bias some draws must come out negative.
    assert min(one[0] for one in found) < 0


def _only_moments(trace, empty, marginal, matched) -> Moments:
    """Without the errors, which take most of the time."""
    gram = mixing._inner_products(torch.cat([trace, marginal, empty]))
    pairs, empties = torch.arange(len(trace)), torch.arange(len(empty))
    return mixing._moments(gram, len(trace), pairs, empties, matched=matched)


def close(left: Moments, right: Moments) -> bool:
    return astuple(left) == pytest.approx(astuple(right), rel=1e-9, abs=1e-12)


def test_only_inner_products_matter(monkeypatch):
    """The same in other axes, in any order of the pairs, and however many columns are worked on at a time."""
    trace, empty, marginal = rows(30, 8), rows(20, 8, seed=1), rows(30, 8, seed=2)
    found = estimate(trace, empty, marginal).moments
    axes = torch.linalg.qr(rows(8, 8, seed=3)).Q
    assert close(estimate(trace @ axes, empty @ axes, marginal @ axes).moments, found)
    assert close(estimate(trace.flip(0), empty.roll(3, 0), marginal.flip(0)).moments, found)
    assert not close(estimate(trace.flip(0), empty, marginal).moments, found)
    monkeypatch.setattr(mixing, "COLUMNS", 3)
    assert close(estimate(trace, empty, marginal).moments, found)


def test_a_random_projection_keeps_what_matters():
    """Of 4,000 parameters 400 directions: each moment to some sqrt(2 / 400), 7 %."""
    wide = rows(100, 4000), rows(100, 4000, seed=1) + 0.3, rows(100, 4000, seed=2) - 0.3
    directions = rows(4000, 400, seed=3) / 400**0.5
    found, projected = estimate(*wide).moments, estimate(*(one @ directions for one in wide)).moments
    assert astuple(projected) == pytest.approx(astuple(found), rel=0.2)
    assert projected.alpha() == pytest.approx(found.alpha(), abs=0.02)


def test_the_jackknife_by_hand():
    """Of a mean it is the usual standard error: sqrt(sum of squares / (n (n - 1)))."""
    values = [1.0, 4.0, 2.0, 7.0]
    means = [(sum(values) - value) / 3 for value in values]
    without = tuple(replace(MOMENTS, cross_bias=mean) for mean in means)
    error = Estimate(MOMENTS, without).standard_error(lambda moments: moments.cross_bias)
    assert error == pytest.approx(stdev(values) / 2)


# ---- alpha on the toy ---------------------------------------------------------------------------

SEEDS, PAIRS = 120, 100
CASES = {
    "ref": (one_prompt(), False, None),
    "off": (one_prompt(OFF), False, None),
    "off-3-traces": (one_prompt(OFF), False, 3),
    "several": (several_prompts(), False, None),
    "several-matched": (several_prompts(), True, None),
    "several-2-traces": (several_prompts(), True, 2),
}


@pytest.mark.patient
@pytest.mark.parametrize("case", CASES)
def test_alpha_from_sampled_pairs(case):
    """Over seeds: the exact one on average, as far off as the jackknife says."""
    toy, matched, marginal_traces = CASES[case]
    k_traces = None if marginal_traces is None else toy.k_trace_draws(marginal_traces)
    # Biases are against what the marginal gradients are on average.
    target = None if k_traces is None else torch.einsum("prs,prsd->d", *k_traces)
    moments = toy.moments(matched=matched, target=target)
    generator = torch.Generator().manual_seed(1)
    estimates = []
    for _ in range(SEEDS):
        trace, empty, marginal = sampled(toy, PAIRS, generator, k_traces)
        others = empty if matched else sampled(toy, PAIRS // 2, generator)[1]
        estimates.append(estimate(trace, others, marginal, matched=matched))
    for of, exact_value in ((Moments.alpha, moments.alpha()), (_at_four, _at_four(moments))):
        found = [of(one.moments) for one in estimates]
        errors = [one.standard_error(of) for one in estimates]
        # A ratio's bias is of the order of its variance: a part of one error.
        assert fmean(found) == pytest.approx(exact_value, abs=stdev(found) / 3 + 4 * stdev(found) / SEEDS**0.5)
        assert fmean(errors) == pytest.approx(stdev(found), rel=0.35)
        covered = fmean(abs(value - exact_value) <= 2 * error for value, error in zip(found, errors, strict=True))
        assert covered >= 0.88


def _at_four(moments: Moments) -> float:
    return moments.at(4).alpha()
