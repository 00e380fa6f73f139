"""What is known of BVPO on a toy whose traces can all be listed: its theorems, its weight, and what training does.

Numbers are of the toy's definition alone: 6 decimals, computed apart from this package.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch.func import jacrev

from fpa_verl.objectives.dpo import DPO
from fpa_verl.objectives.k_trace import KTraceDPO, marginal_log_ratio
from fpa_verl.roles import PAIR
from tests.objectives.bvpo_toy import (
    EMPTY,
    OFF,
    A,
    D,
    R,
    Toy,
    log_joint,
    one_prompt,
    several_prompts,
)
from tests.objectives.bvpo_training import Exact, Sampled, train

# Half a unit of the last digit.
SIXTH = 5.1e-7
POINTS = {"ref": one_prompt(), "off": one_prompt(OFF), "several": several_prompts()}
ALPHAS = (0.0, 0.25, 0.5, 0.8, 1.0)


@pytest.fixture(params=POINTS)
def toy(request) -> Toy:
    return POINTS[request.param]


def mixed(toy: Toy, alpha: float) -> torch.Tensor:
    """g_c of every pair of traces, (P, R, R, D), the data fixed."""
    return alpha * toy.trace_gradients + (1 - alpha) * toy.empty_gradients[:, None, None]


# ---- the marginal gradient ----------------------------------------------------------------------


def test_posterior_of_the_traces():
    assert POINTS["ref"].posterior[0].T.tolist() == [
        pytest.approx([0.170178, 0.814897, 0.014925], abs=SIXTH),
        pytest.approx([0.435519, 0.282240, 0.282240], abs=SIXTH),
    ]


def test_the_gradient_of_an_answer_is_the_mean_over_the_policys_own_posterior(toy):
    """grad log pi(y) = E over r ~ pi(r|y) of grad log pi(r, y)."""
    scores = jacrev(lambda added: log_joint(toy.logits(added)))(toy.added)
    of_answers = jacrev(lambda added: log_joint(toy.logits(added)).logsumexp(-2))(toy.added)
    by_posterior = (log_joint(toy.logits(toy.added)).softmax(-2).unsqueeze(-1) * scores).sum(1)
    torch.testing.assert_close(by_posterior, of_answers, atol=1e-12, rtol=0)


def test_the_ratio_of_an_answer_is_the_mean_over_the_references_posterior(toy):
    """pi(y) / ref(y) = E over r ~ ref(r|y) of R(r, y), which no logarithm of a single R exceeds on average."""
    ratios = toy.log_ratios(toy.added)
    mean = (toy.posterior * ratios.exp()).sum(1)
    torch.testing.assert_close(mean, toy.answer_log_ratios(toy.added).exp(), atol=1e-12, rtol=0)
    assert bool(((toy.posterior * ratios).sum(1) <= mean.log() + 1e-12).all())


def test_mu_by_finite_differences(toy):
    step = 1e-5
    for i, slope in enumerate(toy.mu.tolist()):
        shift = torch.zeros(D, dtype=torch.float64)
        shift[i] = step
        losses = [toy.marginal_losses(toy.added + sign * shift).mean().item() for sign in (1, -1)]
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(slope, abs=1e-9)


def test_the_objective_has_the_toys_gradients(toy):
    """DPO through `Trajectories`: traces weighted by their probability, and empty ones."""
    prompts, *traces = torch.cartesian_prod(torch.arange(toy.prompts), torch.arange(R), torch.arange(R)).T
    added = toy.added.clone().requires_grad_()
    batch = rows_of(toy, added, prompts, torch.stack(traces, -1))
    losses = DPO(beta=toy.beta)(batch)
    torch.testing.assert_close(losses, toy.trace_losses(added).flatten())
    (gradient,) = torch.autograd.grad((toy.drawn.flatten() * losses).sum(), added)
    expected = torch.einsum("prs,prsd->d", toy.drawn, toy.trace_gradients)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)


def rows_of(toy: Toy, added: torch.Tensor, prompts: torch.Tensor, traces: torch.Tensor, *, masked: bool = False):
    """Items of 2K rows, (items,) and (items, 2K): K traces of the preferred answer, then K of the other."""
    rows = traces.shape[1]
    answers = torch.arange(rows).ge(rows // 2).long().expand_as(traces)
    prompts = prompts[:, None].expand_as(traces)
    roles = tuple(PAIR[i] for i in answers.flatten().tolist())
    return toy.trajectories(added, prompts.flatten(), traces.flatten(), answers.flatten(), roles, masked=masked)


# ---- bias, variance and the weight --------------------------------------------------------------


def test_traces_of_the_reference_give_no_bias_at_the_reference_and_one_off_it():
    assert POINTS["ref"].moments().trace_bias == pytest.approx(0, abs=1e-12)
    assert POINTS["off"].moments().trace_bias == pytest.approx(0.011685, abs=SIXTH)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_noise_of_traces_falls_by_the_square_of_the_weight(toy, alpha):
    """Theorem 1: the variance over traces alone, of every prompt by itself."""

    def variance(gradients):
        drawn = toy.drawn * toy.prompts
        mean = torch.einsum("prs,prsd->pd", drawn, gradients)
        return (drawn * (gradients - mean[:, None, None]).square().sum(-1)).sum((1, 2))

    of_traces = variance(toy.trace_gradients)
    assert bool((of_traces > 0.01).all())
    torch.testing.assert_close(variance(mixed(toy, alpha)), alpha**2 * of_traces, atol=1e-15, rtol=1e-12)


TABLE = [
    ("ref", 1, 0.053279, 0, 0.093655, 0.102567, 0, 0.522710, 0.093655, 0.048954, 0.049055),
    ("ref", 4, 0.053279, 0, 0.023414, 0.102567, 0, 0.814149, 0.023414, 0.019062, 0.031495),
    ("ref", 16, 0.053279, 0, 0.005853, 0.102567, 0, 0.946012, 0.005853, 0.005537, 0.027105),
    ("off", 1, 0.058236, 0.011685, 0.108402, 0.043555, -0.020027, 0.312142, 0.120087, 0.023709, 0.030897),
    ("off", 4, 0.058236, 0.011685, 0.027100, 0.043555, -0.020027, 0.519484, 0.038786, 0.010525, 0.010572),
    ("off", 16, 0.058236, 0.011685, 0.006775, 0.043555, -0.020027, 0.622930, 0.018461, 0.003948, 0.005490),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_table(row):
    point, pairs, *expected = row
    toy = POINTS[point]
    moments = toy.moments().at(pairs)
    alpha = moments.alpha()
    found = [
        toy.mu.square().sum().item(),
        *(moments.trace_bias, moments.trace_variance, moments.empty_bias, moments.cross_bias),
        *(alpha, moments.error(1), moments.error(alpha), moments.error(0.5)),
    ]
    assert found == pytest.approx(expected, abs=SIXTH)
    # An empty trace has one outcome, and one prompt no other.
    assert moments.empty_variance == pytest.approx(0, abs=1e-15)
    assert moments.error(0) == pytest.approx(moments.empty_bias)


def test_the_weight_rises_with_the_batch_to_what_biases_alone_make_of_it():
    for point, limit in (("ref", 1.0), ("off", 0.667218)):
        moments = POINTS[point].moments()
        weights = [moments.at(pairs).alpha() for pairs in (1, 4, 16, 64, 10**9)]
        assert weights == sorted(weights)
        assert weights[-1] == pytest.approx(limit, abs=1e-6)


@pytest.mark.parametrize("pairs", [1, 4, 16])
def test_the_weight_against_a_fine_grid(toy, pairs):
    """Theorem 2 and Corollary 1."""
    moments = toy.moments(matched=True).at(pairs)
    grid = [i / 100_000 for i in range(100_001)]
    best = min(grid, key=moments.error)
    alpha, least = moments.alpha(), moments.error(moments.alpha())
    assert alpha == pytest.approx(best, abs=1e-5)
    mt, me, c = moments.trace_error, moments.empty_error, moments.cross_error
    assert 0 < alpha < 1
    assert least == pytest.approx((mt * me - c * c) / (mt + me - 2 * c))
    assert least < min(mt, me)
    assert [moments.error(1), moments.error(0)] == pytest.approx([mt, me])


def test_the_error_of_every_mix_is_the_error_of_its_draws(toy):
    """The formula, and the same by listing all draws; E|g_t - g_e|^2 too."""
    moments = toy.moments(matched=True)

    def mean_square(off):
        return (toy.drawn * off.square().sum(-1)).sum().item()

    for alpha in (*ALPHAS, moments.unclipped(), -0.3, 1.4):
        assert moments.error(alpha) == pytest.approx(mean_square(mixed(toy, alpha) - toy.mu), abs=1e-14)
    apart = toy.trace_gradients - toy.empty_gradients[:, None, None]
    assert moments.distance == pytest.approx(mean_square(apart), abs=1e-14)


def test_a_weight_below_0_is_clipped():
    """Where the policy has come to write empty traces nearly always: more of them than all."""
    added = torch.zeros(D, dtype=torch.float64)
    added[EMPTY] = 6
    moments = one_prompt(added).moments()
    errors = [moments.trace_error, moments.empty_error, moments.cross_error]
    assert errors == pytest.approx([0.333443, 0.006030, 0.020521], abs=SIXTH)
    assert moments.unclipped() == pytest.approx(-0.048555, abs=SIXTH)
    assert moments.alpha() == 0
    assert moments.alpha(low=0.1, high=0.9) == 0.1
    assert moments.error(0) == min(moments.error(i / 1000) for i in range(1001))


def given_prompts(toy: Toy, matched: bool) -> torch.Tensor:
    """Probability of an empty trace's prompt, given the other's, (P, P)."""
    same = torch.eye(toy.prompts, dtype=torch.float64)
    return same if matched else torch.full_like(same, 1 / toy.prompts)


@pytest.mark.parametrize("matched", [False, True], ids=["independent", "matched"])
def test_prompts_of_their_own_or_the_same_for_both(matched):
    """Several prompts: C has the covariance of the two gradients where they are drawn with one index, else not."""
    toy = POINTS["several"]
    moments = toy.moments(matched=matched)
    assert (abs(moments.cross_variance) > 0.001) == matched
    # Every draw of (prompt, traces) and of the empty trace's prompt, (P, R, R, P).
    probability = torch.einsum("prs,pq->prsq", toy.drawn, given_prompts(toy, matched))
    assert probability.sum().item() == pytest.approx(1)

    def error(alpha):
        off = alpha * toy.trace_gradients.unsqueeze(3) + (1 - alpha) * toy.empty_gradients - toy.mu
        return (probability * off.square().sum(-1)).sum().item()

    for alpha in ALPHAS:
        assert moments.error(alpha) == pytest.approx(error(alpha), rel=1e-12)
    least = min((i / 1000 for i in range(1001)), key=error)
    assert moments.alpha() == pytest.approx(least, abs=5.1e-4)
    assert moments.alpha() != pytest.approx(toy.moments(matched=not matched).alpha(), abs=0.01)


# ---- the empty block ----------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [DPO(beta=0.5), KTraceDPO(beta=0.5, traces=2)], ids=lambda one: one.name)
def test_scoring_the_empty_block_or_masking_it_is_the_same(toy, objective):
    """It is the same on both sides: its log-probability cancels, and so does the gradient through it."""
    losses, gradients = [], []
    for masked in (False, True):
        added = toy.added.clone().requires_grad_()
        traces = torch.full((toy.prompts, objective.rows_per_item), EMPTY)
        batch = rows_of(toy, added, torch.arange(toy.prompts), traces, masked=masked)
        losses.append(objective(batch))
        gradients.append(torch.autograd.grad(losses[-1].mean(), added)[0])
    torch.testing.assert_close(losses[0], losses[1], atol=1e-14, rtol=0)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-14, rtol=0)
    torch.testing.assert_close(gradients[0], toy.empty_gradients.mean(0), atol=1e-12, rtol=0)
    # The logits of traces are out of it.
    assert gradients[0][:R].tolist() == pytest.approx([0] * R, abs=1e-14)


# ---- K traces -----------------------------------------------------------------------------------

K_TRACES = [
    (1, 0.011685, 0.120087),
    (2, 0.005741, 0.070958),
    (3, 0.003241, 0.050952),
    (4, 0.002032, 0.039486),
    (5, 0.001376, 0.032014),
]


@pytest.mark.parametrize(("traces", "bias", "error"), K_TRACES)
def test_k_traces_tend_to_the_marginal_gradient(traces, bias, error):
    """Exact over all 3^2K draws; the mean of K gradients of one trace keeps the bias of one."""
    toy = POINTS["off"]
    probability, gradients = toy.k_trace_draws(traces)
    assert probability.numel() == R ** (2 * traces)
    assert probability.sum().item() == pytest.approx(1)
    mean = torch.einsum("prs,prsd->d", probability, gradients)
    assert (mean - toy.mu).square().sum().item() == pytest.approx(bias, abs=SIXTH)
    assert (probability * (gradients - toy.mu).square().sum(-1)).sum().item() == pytest.approx(error, abs=SIXTH)
    assert toy.moments().at(traces).trace_bias == pytest.approx(0.011685, abs=SIXTH)
    # The objective, a batch of all draws.
    side = toy.draws_of(traces)
    first, second = torch.cartesian_prod(torch.arange(len(side)), torch.arange(len(side))).T
    added = toy.added.clone().requires_grad_()
    draws = torch.cat([side[first], side[second]], -1)
    batch = rows_of(toy, added, torch.zeros(len(draws), dtype=torch.long), draws)
    losses = KTraceDPO(beta=toy.beta, traces=traces)(batch)
    (through_it,) = torch.autograd.grad((probability.flatten() * losses).sum(), added)
    torch.testing.assert_close(through_it, mean, atol=1e-12, rtol=0)


def test_two_sizes_of_k_cancel_most_of_the_bias():
    """2 g_4 - g_2 at .000219, where g_4 is at .002032; the weight nearer to .312142."""
    toy = POINTS["off"]
    mean = {k: torch.einsum("prs,prsd->d", *toy.k_trace_draws(k)) for k in (2, 4)}
    cancelled = 2 * mean[4] - mean[2]
    assert (cancelled - toy.mu).square().sum().item() == pytest.approx(0.000219, abs=SIXTH)
    weights = [toy.moments(target=target).alpha() for target in (mean[4], cancelled, toy.mu)]
    assert weights == pytest.approx([0.3739, 0.3300, 0.3121], abs=5e-5)


def test_the_log_ratio_of_k_traces_is_never_higher_on_average():
    toy, exact, means = POINTS["off"], POINTS["off"].answer_log_ratios(OFF)[0], []
    for traces in (1, 2, 4):
        draws = toy.draws_of(traces)
        found = marginal_log_ratio(toy.log_ratios(OFF)[0].T[:, draws])
        assert found.shape == (A, R**traces)
        means.append((toy.posterior[0].T[:, draws].prod(-1) * found).sum(-1))
    assert bool((means[0] < means[1]).all() and (means[1] < means[2]).all() and (means[2] < exact).all())


# ---- batches of two sizes -----------------------------------------------------------------------


@pytest.mark.parametrize("matched", [False, True], ids=["independent", "matched"])
def test_the_error_of_two_pairs_with_traces_and_one_with_an_empty_one(matched):
    """Each loss is averaged over its own pairs first; all draws of the three are listed."""
    toy = POINTS["several"]
    traces = toy.trace_gradients.flatten(0, 2)
    drawn, prompts = toy.drawn.flatten(), torch.arange(toy.prompts).repeat_interleave(R * R)
    means = (traces[:, None] + traces[None]) / 2
    # Matched, the empty trace has the first pair's prompt.
    given = given_prompts(toy, matched)[prompts]
    probability = drawn[:, None, None] * drawn[None, :, None] * given[:, None]
    for alpha in ALPHAS:
        off = alpha * means.unsqueeze(2) + (1 - alpha) * toy.empty_gradients - toy.mu
        listed = (probability * off.square().sum(-1)).sum().item()
        assert toy.moments(matched=matched).at(2, 1).error(alpha) == pytest.approx(listed, rel=1e-12)


def test_the_mixed_loss_has_the_mixed_gradient():
    toy, alpha = POINTS["several"], 0.3
    added = toy.added.clone().requires_grad_()
    prompts, traces = torch.tensor([0, 2, 1, 1, 0]), torch.tensor([[0, 1], [2, 2], [1, 0], [1, 1], [2, 0]])
    others = torch.tensor([2, 0])
    objective = DPO(beta=toy.beta)
    with_traces = objective(rows_of(toy, added, prompts, traces))
    empty = objective(rows_of(toy, added, others, torch.full((2, 2), EMPTY)))
    loss = alpha * with_traces.mean() + (1 - alpha) * empty.mean()
    (gradient,) = torch.autograd.grad(loss, added)
    g_t = toy.trace_gradients[prompts, traces[:, 0], traces[:, 1]].mean(0)
    g_e = toy.empty_gradients[others].mean(0)
    torch.testing.assert_close(gradient, alpha * g_t + (1 - alpha) * g_e, atol=1e-12, rtol=0)


# ---- training -----------------------------------------------------------------------------------

# L_m after 50 steps of length 2 on a loss with all its draws in it, by the weight of traces of the reference's (None:
# on L_m itself): of right labels, and where 20 % are the wrong way round.
EXACT_TRAINING = {
    None: (0.0453, 0.5004),
    1.0: (0.0536, 0.5009),
    0.75: (0.0749, 0.5015),
    0.5: (0.1146, 0.5048),
    0.25: (0.2060, 0.5205),
    0.0: (0.5276, 0.6116),
}


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_exact_training(wrong):
    """Without noise there is nothing to gain: the more weight of empty traces, the further from L_m's minimum."""
    toy = POINTS["ref"]
    watched = Exact(toy, None, wrong)
    found = [train(Exact(toy, alpha, wrong), watched, step=2.0, steps=50)[-1].item() for alpha in EXACT_TRAINING]
    assert found == pytest.approx([both[wrong > 0] for both in EXACT_TRAINING.values()], abs=6e-5)
    assert found == sorted(found)


@cache
def trained(alpha: float, *, step: float, wrong: float = 0.0, traces: int = 1) -> tuple[float, float]:
    """L_m over the last quarter of 200 steps on two pairs each: its mean over policies, and the error of that."""
    toy = POINTS["ref"]
    loss = Sampled(toy, alpha, pairs=2, traces=traces, wrong=wrong)
    seen = train(loss, Exact(toy, None, wrong), step=step, steps=200, policies=128)[150:].mean(0)
    return seen.mean().item(), seen.std().item() / len(seen) ** 0.5


def below(left: tuple[float, float], right: tuple[float, float]) -> bool:
    """By more than four standard errors."""
    return right[0] - left[0] > 4 * math.hypot(left[1], right[1])


@pytest.mark.patient
@pytest.mark.parametrize("step", [0.5, 8.0])
def test_training_on_right_labels(step):
    """A pair that is always right: noise dies out with the gradient, bias does not, and no mix gains anything.

    At the reference alpha* of a pair of each is .52; over the steps, traces alone are ahead of every mix.
    """
    found = [trained(alpha, step=step) for alpha in (1, 0.75, 0.5, 0.25, 0)]
    assert all(below(left, right) for left, right in pairwise(found))


@pytest.mark.patient
def test_training_on_labels_of_which_some_are_wrong():
    """Noise that stays: it counts where steps are long, as the bound of SGD has it, and bias where they are short."""
    short = [trained(alpha, step=0.5, wrong=0.2) for alpha in (1, 0.5, 0.25)]
    assert all(below(left, right) for left, right in pairwise(short))
    three_quarters, traces, half, quarter = (trained(alpha, step=8.0, wrong=0.2) for alpha in (0.75, 1, 0.5, 0.25))
    assert below(quarter, traces)
    # At equal cost a mix has half the pairs with traces: above a weight of .71, more of their noise than all of them.
    assert below(traces, three_quarters)
    # Between the two nothing is decided.
    assert not below(half, traces)


def test_training_on_two_traces_of_one_pair_or_one_of_two():
    """The same cost: less bias, and labels of half as many pairs."""
    assert below(trained(1, step=0.5, traces=2), trained(1, step=0.5))
    assert below(trained(1, step=8.0, wrong=0.2), trained(1, step=8.0, wrong=0.2, traces=2))
