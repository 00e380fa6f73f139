"""Values and gradients of every objective: by hand, by identities, and under what must not matter."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fpa_verl.objectives import OBJECTIVES, Objective, Trajectories, forward_kl, sequence_mean, trajectory_weights
from fpa_verl.objectives.a_star_po import AStarPO
from fpa_verl.objectives.bvpo import BVPO
from fpa_verl.objectives.dpo import DPO, DPOFPA
from fpa_verl.objectives.fpa import FPA
from fpa_verl.objectives.k_trace import KTraceDPO
from fpa_verl.objectives.kto import KTO
from fpa_verl.objectives.off_rl import OffRL
from fpa_verl.objectives.one_sided_fpa import OneSidedFPA
from fpa_verl.objectives.rpo import RPO, RPOFPA
from fpa_verl.objectives.sft import SFT
from fpa_verl.objectives.simper import SimPER, SimPERFPA
from fpa_verl.objectives.step_ends import StepEnds
from fpa_verl.objectives.topr import TOPR
from fpa_verl.roles import PAIR, PAIR_OF_EACH_MODE, Roles, of_traces
from tests.objectives.conftest import B, T, future_of, log_probs_of, one_pair

NAMES = sorted(OBJECTIVES)


def gradient_at(batch: Trajectories, loss: torch.Tensor) -> list[list[float]]:
    return torch.autograd.grad(loss, batch.log_probs)[0].tolist()


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


def as_item(batch: Trajectories, roles: Roles) -> Trajectories:
    """The two rows of a pair as often as an item of these roles has chosen and rejected ones."""
    rows = torch.tensor([int(role.startswith("rejected")) for role in roles])
    item = batch.of_rows(rows)
    return replace(item, log_probs=item.log_probs.detach().requires_grad_(), roles=roles)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# ---- by hand ------------------------------------------------------------------------------------


def test_weight_by_hand():
    # Two tokens of probability 1/2 and 1/8: geometric mean 1/4. The masked third does not count.
    log_probs = torch.tensor([[math.log(1 / 2), math.log(1 / 8), 99.0]])
    mask = torch.tensor([[True, True, False]])
    assert trajectory_weights(log_probs, mask).item() == pytest.approx(0.25)


def test_off_rl_by_hand():
    batch = one_pair([1 / 2], [1 / 2, 1 / 8])
    losses = OffRL()(batch)
    # w = 1/2 and 1/4; mean log-probs -ln 2 and -2 ln 2.
    assert losses.tolist() == pytest.approx([0.5 * math.log(2), -0.25 * 2 * math.log(2)])
    # -R w / |y| at each token.
    assert flat(gradient_at(batch, losses.sum())) == pytest.approx([-0.5, 0, 0.125, 0.125])


def test_fpa_by_hand():
    batch = one_pair([1 / 2], [1 / 2, 1 / 8], future_weights=torch.tensor([0.9, 0.1], dtype=torch.float64))
    losses = FPA(lam=1.0)(batch)
    assert losses.tolist() == pytest.approx([0.9 * math.log(2), -0.1 * 2 * math.log(2)])
    assert flat(gradient_at(batch, losses.sum())) == pytest.approx([-0.9, 0, 0.05, 0.05])


@pytest.mark.parametrize(("side", "weights"), [("right", [0.9, 0.25]), ("wrong", [0.5, 0.1])], ids=lambda v: str(v))
def test_fpa_on_one_side_by_hand(side, weights):
    """Table 2: the other side keeps w = 1/2, of the right one, or 1/4, of the wrong one."""
    batch = one_pair([1 / 2], [1 / 2, 1 / 8], future_weights=torch.tensor([0.9, 0.1], dtype=torch.float64))
    losses = OneSidedFPA(lam=1.0, future_weight_on=side)(batch)
    right, wrong = weights
    assert losses.tolist() == pytest.approx([right * math.log(2), -wrong * 2 * math.log(2)])
    assert flat(gradient_at(batch, losses.sum())) == pytest.approx([-right, 0, wrong / 2, wrong / 2])


def test_sft_by_hand():
    # Three tokens a trajectory in the whole batch.
    batch = one_pair([1 / 2, 1 / 8], [1 / 2], mean_length=3.0)
    losses = SFT(mean_over="trajectories")(batch)
    assert losses.tolist() == pytest.approx([2 * math.log(2), 0])
    assert gradient_at(batch, losses.sum()) == [[-0.5, -0.5], [0, 0]]
    losses = SFT()(batch)
    assert losses.tolist() == pytest.approx([4 * math.log(2) / 3, 0])
    assert flat(gradient_at(batch, losses.sum())) == pytest.approx([-1 / 3, -1 / 3, 0, 0])


def test_sft_is_the_mean_over_all_tokens_of_the_batch(example):
    batch = replace(example.batch(), rewards=torch.ones(B, dtype=torch.float64))
    torch.testing.assert_close(SFT()(batch).mean(), -batch.log_probs[example.mask].mean())


def test_dpo_by_hand():
    # Log-ratios ln 1/2 - ln 1/4 = ln 2 and ln 1/8 - ln 1/2 = -2 ln 2; margin 3 ln 2.
    batch = one_pair([1 / 2], [1 / 8], [math.log(1 / 4)], [math.log(1 / 2)])
    losses = DPO(beta=0.5)(batch)
    margin = 0.5 * 3 * math.log(2)
    assert losses.tolist() == pytest.approx([-math.log(sigmoid(margin))])
    slope = 0.5 * sigmoid(-margin)
    assert flat(gradient_at(batch, losses.sum())) == pytest.approx([-slope, slope])


def test_rpo_adds_the_likelihood_of_the_right_one():
    batch = one_pair([1 / 2, 1 / 8], [1 / 8])
    difference = RPO(beta=0.3, alpha=0.7)(batch) - DPO(beta=0.3)(batch)
    assert difference.tolist() == pytest.approx([0.7 * 2 * math.log(2)])
    assert gradient_at(batch, difference.sum())[0] == pytest.approx([-0.35, -0.35])


def test_kto_by_hand():
    # Log-ratios ln 2 and -ln 2, z0 = 0.1.
    point = torch.tensor(0.1, dtype=torch.float64)
    batch = one_pair([1 / 2], [1 / 8], [math.log(1 / 4)], [math.log(1 / 4)], reference_point=point)
    losses = KTO(beta=0.5, lambda_w=1.0, lambda_l=3.0)(batch)
    gains = [0.5 * (math.log(2) - 0.1), 0.5 * (-math.log(2) - 0.1)]
    assert losses.tolist() == pytest.approx([1 - sigmoid(gains[0]), 3 * (1 - sigmoid(-gains[1]))])
    slopes = [0.5 * sigmoid(g) * sigmoid(-g) for g in gains]
    assert flat(gradient_at(batch, losses.sum())) == pytest.approx([-slopes[0], 3 * slopes[1]])


@pytest.mark.parametrize(("reward", "wrong"), [("signed", -1.0), ("binary", 0.0)])
def test_a_star_po_by_hand(reward, wrong):
    objective = AStarPO(beta1=0.5, beta2=0.2, reward=reward)
    value = 0.5 * math.log(0.25 * math.exp(1 / 0.5) + 0.75 * math.exp(wrong / 0.5))
    rewards, pass_rates = torch.tensor([1.0, -1.0]), torch.tensor([0.25, 0.25])
    advantages = objective.optimal_advantages(rewards, pass_rates)
    assert advantages.tolist() == pytest.approx([1 - value, wrong - value], rel=1e-5)
    batch = one_pair([1 / 2], [1 / 8], [math.log(1 / 4)], [math.log(1 / 4)])
    losses = objective(replace(batch, pass_rates=pass_rates))
    residuals = [0.2 * math.log(2) - (1 - value), -0.2 * math.log(2) - (wrong - value)]
    assert losses.tolist() == pytest.approx([r * r for r in residuals], rel=1e-5)
    assert flat(gradient_at(batch, losses.sum())) == pytest.approx([0.4 * r for r in residuals], rel=1e-5)


def test_simper_by_hand():
    batch = one_pair([1 / 2, 1 / 8], [1 / 2])
    losses = SimPER()(batch)
    assert losses.tolist() == pytest.approx([0.5 - 0.25])
    assert gradient_at(batch, losses.sum())[0] == pytest.approx([-0.125, -0.125])


def test_k_traces_by_hand():
    """Ratios 2 and 4 of the chosen answer, mean 3, and 1 and 1/2 of the rejected one, mean 3/4: margin ln 4."""
    batch = as_item(one_pair([1 / 2], [1 / 2]), of_traces(2))
    ratios = torch.tensor([[2.0], [4.0], [1.0], [0.5]], dtype=torch.float64)
    losses = KTraceDPO(beta=0.5)(replace(batch, ref_log_probs=batch.log_probs.detach() - ratios.log()))
    # sigmoid(ln 2) = 2/3.
    assert losses.tolist() == pytest.approx([math.log(3 / 2)])
    # beta / 3 = 1/6, by shares 1/3 and 2/3 of the one, 2/3 and 1/3 of the other.
    assert flat(gradient_at(batch, losses.sum())) == pytest.approx([-1 / 18, -1 / 9, 1 / 9, 1 / 18])


def test_topr_tapers_wrong_trajectories_alone():
    # The wrong one has fallen from 1/2 to 1/8: ratio 1/4. The right one's ratio of 1/8 plays no part.
    batch = one_pair([1 / 4], [1 / 8], [math.log(2)], [math.log(1 / 2)])
    losses = TOPR()(batch)
    assert flat(gradient_at(batch, losses.sum())) == pytest.approx([-1, 0.25])
    # Risen above the reference, it counts once.
    risen = one_pair([1 / 4], [1 / 2], [0.0], [math.log(1 / 8)])
    assert gradient_at(risen, TOPR()(risen).sum())[1] == pytest.approx([1])


def test_forward_kl_by_hand():
    logits = torch.tensor([[0.0, math.log(3)]], requires_grad=True)
    kl = forward_kl(logits, torch.zeros(1, 2))
    assert kl.item() == pytest.approx(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))
    kl.sum().backward()
    assert logits.grad.flatten().tolist() == pytest.approx([0.25 - 0.5, 0.75 - 0.5])


# ---- identities ---------------------------------------------------------------------------------


def test_off_rl_gradient_is_equation_2(example):
    """The detached weight gives the gradient of J = mean R pi_theta(y)^(1/|y|) itself (Eq. 1)."""
    batch = example.batch()
    detached = example.gradient(OffRL()(batch).mean())
    objective = (example.rewards * sequence_mean(example.batch().log_probs, example.mask).exp()).mean()
    torch.testing.assert_close(detached, example.gradient(-objective))


@pytest.mark.parametrize(
    ("extended", "plain"),
    [
        (FPA(lam=0.0), OffRL()),
        (OneSidedFPA(lam=0.0, future_weight_on="right"), OffRL()),
        (OneSidedFPA(lam=0.0, future_weight_on="wrong"), OffRL()),
        (DPOFPA(lam=0.0), DPO()),
        (RPOFPA(lam=0.0), RPO()),
        (DPOFPA(beta=0.1, lam=2.0), DPO(beta=0.3)),
    ],
    ids=str,
)
def test_equal_in_value_and_gradient(example, extended, plain):
    left, right = (objective(example.batch()) for objective in (extended, plain))
    torch.testing.assert_close(left, right)
    torch.testing.assert_close(example.gradient(left.sum()), example.gradient(right.sum()))


def test_one_trace_is_dpo_to_the_bit(example):
    left, right = (objective(example.batch()) for objective in (KTraceDPO(beta=0.3, traces=1), DPO(beta=0.3)))
    assert torch.equal(left, right)
    assert torch.equal(example.gradient(left.sum()), example.gradient(right.sum()))


def test_the_same_trace_again_adds_nothing():
    pair = one_pair([1 / 2], [1 / 8], [math.log(1 / 4)], [math.log(1 / 2)])
    again = as_item(pair, of_traces(3))
    left, right = KTraceDPO(traces=3)(again), DPO()(pair)
    torch.testing.assert_close(left, right)
    chosen, rejected = gradient_at(pair, right.sum())
    expected = pytest.approx([chosen[0] / 3] * 3 + [rejected[0] / 3] * 3)
    assert flat(gradient_at(again, left.sum())) == expected


@pytest.mark.parametrize("traces", [1, 2, 3])
def test_k_traces_by_finite_differences(example, traces):
    """Through `Trajectories`, at the logits."""
    objective = KTraceDPO(beta=0.3, traces=traces)
    batch = example.batch(objective.roles)

    def loss(logits):
        return objective(replace(batch, log_probs=log_probs_of(logits, example.labels)))

    assert torch.autograd.gradcheck(loss, example.logits, fast_mode=True)


@pytest.mark.parametrize(("side", "sign"), [("right", -1), ("wrong", 1)])
def test_fpa_on_one_side_is_off_rl_on_the_other_to_the_bit(example, side, sign):
    others, gradients = example.rewards == sign, []
    for objective in (OneSidedFPA(lam=2.0, future_weight_on=side), OffRL()):
        batch = example.batch()
        losses = objective(batch)
        gradients.append((losses[others], example.gradient(losses.sum())[others]))
    (ours, our_gradient), (theirs, their_gradient) = gradients
    assert torch.equal(ours, theirs)
    assert torch.equal(our_gradient, their_gradient)
    both = FPA(lam=2.0)(example.batch())[~others]
    assert torch.equal(OneSidedFPA(lam=2.0, future_weight_on=side)(example.batch())[~others], both)
    assert not torch.equal(OffRL()(example.batch())[~others], both)


def test_simper_at_lambda_zero_in_gradient(example):
    left, right = (objective(example.batch()) for objective in (SimPERFPA(lam=0.0), SimPER()))
    torch.testing.assert_close(example.gradient(left.sum()), example.gradient(right.sum()))


def test_simpers_gradient_is_off_rls_on_pairs(example):
    """Proposition A.1: summed over the same trajectories."""
    left, right = (objective(example.batch()) for objective in (SimPER(), OffRL()))
    torch.testing.assert_close(example.gradient(left.sum()), example.gradient(right.sum()))


def test_simper_fpas_gradient_is_fpas_on_pairs(example):
    left, right = (objective(example.batch()) for objective in (SimPERFPA(), FPA()))
    torch.testing.assert_close(example.gradient(left.sum()), example.gradient(right.sum()))


def test_policy_at_the_reference(example):
    batch = example.batch(at_reference=True)
    torch.testing.assert_close(FPA()(batch), OffRL()(batch))
    assert DPO()(batch).tolist() == pytest.approx([math.log(2)] * (B // 2))
    assert DPOFPA()(batch).tolist() == pytest.approx([math.log(2)] * (B // 2))
    assert batch.reference_point.item() == pytest.approx(0)
    assert KTO()(batch).tolist() == pytest.approx([0.5] * B)


def test_a_star_po_is_zero_where_the_log_ratio_meets_the_advantage(example):
    objective = AStarPO()
    batch = example.batch()
    lengths = example.mask.sum(-1, keepdim=True)
    # Spread the wanted log-ratio over the tokens.
    advantages = objective.optimal_advantages(batch.rewards, batch.pass_rates)
    wanted = advantages[:, None] / objective.beta2 / lengths
    solved = replace(batch, log_probs=batch.ref_log_probs + wanted)
    assert objective(solved).tolist() == pytest.approx([0] * B, abs=1e-20)


def test_optimal_value_lies_between_mean_and_best():
    rates = torch.tensor([0.0, 0.125, 0.5, 1.0], dtype=torch.float64)
    for reward, means in (("binary", rates), ("signed", 2 * rates - 1)):
        values = AStarPO(reward=reward).optimal_values(rates)
        assert bool((values >= means - 1e-12).all() and (values <= 1).all())
        torch.testing.assert_close(AStarPO(beta1=1e4, reward=reward).optimal_values(rates), means, atol=2e-4, rtol=0)
        assert AStarPO(beta1=1e-2, reward=reward).optimal_values(rates[1:]).min() > 0.97
    # Of both, for half of a group: r - V* as the paper's reader works it out.
    half = torch.tensor([0.5], dtype=torch.float64)
    assert AStarPO().optimal_values(half).item() == pytest.approx(0.66, abs=0.005)
    assert AStarPO(reward="binary").optimal_values(half).item() == pytest.approx(0.72, abs=0.005)


def test_reference_point_in_both_readings():
    for z0, below, above in (("mean", -1.0, 0.5), ("clamped", 0.0, 0.5)):
        objective = KTO(z0=z0)
        assert objective.reference_point(torch.tensor(-1.0)).item() == below
        assert objective.reference_point(torch.tensor(0.5)).item() == above


def test_reference_point_carries_no_gradient(example):
    batch = example.batch()
    point = batch.reference_point.clone().requires_grad_()
    KTO()(replace(batch, reference_point=point)).sum().backward()
    assert point.grad is None


# ---- what must not matter -----------------------------------------------------------------------


@pytest.fixture(params=NAMES)
def objective(request) -> Objective:
    return OBJECTIVES[request.param]()


def items(objective: Objective, batch: Trajectories, rows: list[int]) -> Trajectories:
    """The batch of the given items only."""
    n = objective.rows_per_item
    index = torch.tensor([row * n + i for row in rows for i in range(n)])
    parts = {name: getattr(batch, name) for name in ("log_probs", "response_mask", "rewards")}
    parts |= {name: getattr(batch, name) for name in ("ref_log_probs", "future_weights", "pass_rates")}
    taken = {name: value[index] for name, value in parts.items()}
    return replace(batch, **taken, step_ends=batch.step_ends.of_rows(index), roles=objective.roles * len(rows))


def test_one_loss_an_item(objective, example):
    losses = objective(example.batch(objective.roles))
    assert losses.shape == (B // objective.rows_per_item,)
    assert bool(torch.isfinite(losses).all())


def test_order_and_split(objective, example):
    batch = example.batch(objective.roles)
    losses = objective(batch)
    order = list(reversed(range(len(losses))))
    torch.testing.assert_close(objective(items(objective, batch, order)), losses.flip(0))
    split = [objective(items(objective, batch, part)) for part in (order[:1], order[1:])]
    torch.testing.assert_close(torch.cat(split), losses.flip(0))


def test_padding(objective, example):
    batch = example.batch(objective.roles)
    losses = objective(batch)
    gradient = example.gradient(losses.sum())
    assert bool((gradient[~example.mask] == 0).all())
    garbage = torch.where(example.mask, batch.log_probs.detach(), torch.nan)
    torch.testing.assert_close(objective(replace(batch, log_probs=garbage)), losses)


def test_an_empty_response_adds_zero_and_still_back_propagates(objective, example):
    empty = torch.arange(B)[:, None] >= objective.rows_per_item
    mask = example.mask & empty
    log_probs = torch.full((B, T), -1.0, dtype=torch.float64, requires_grad=True)
    losses = objective(replace(example.batch(objective.roles), log_probs=log_probs, response_mask=mask))
    assert losses[0].item() == 0
    losses[0].backward()
    assert torch.equal(log_probs.grad, torch.zeros_like(log_probs))


def test_a_step_against_the_gradient_favours_the_right_one(objective):
    """To first order, at the reference: right up, or wrong down, never the other way."""
    weights = torch.tensor([0.5, 0.5], dtype=torch.float64)
    point = torch.zeros((), dtype=torch.float64)
    log_probs = math.log(1 / 2)
    held = {"future_weights": weights, "reference_point": point, "pass_rates": weights, "mean_length": 1.0}
    held["step_ends"] = StepEnds(weights[:, None], weights[:, None], torch.ones(2, 1).bool())
    batch = one_pair([1 / 2], [1 / 2], [log_probs], [log_probs], **held)
    if objective.rows_per_item > 2:
        batch = as_item(batch, objective.roles)
    gradients = torch.autograd.grad(objective(batch).sum(), batch.log_probs)[0].sum(-1)
    right, wrong = (gradients[batch.rewards == side].sum().item() for side in (1, -1))
    assert right <= 0 <= wrong
    assert right < wrong


def test_only_the_policy_carries_gradient(example):
    ref = example.ref.clone().requires_grad_()
    weights = trajectory_weights(future_of(example.logits, ref, example.labels, 2.0), example.mask)
    assert not weights.requires_grad
    batch = replace(example.batch(), ref_log_probs=log_probs_of(ref.detach(), example.labels), future_weights=weights)
    FPA()(batch).sum().backward()
    assert ref.grad is None


# ---- mixes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairwise", ["dpo", "dpo_fpa", "rpo", "rpo_fpa", "simper", "simper_fpa"])
def test_a_mix_is_the_weighted_loss_of_each_mode(example, pairwise):
    """Value and gradient, each loss averaged over its own pairs."""
    pair_loss, batch = OBJECTIVES[pairwise](), example.batch(PAIR_OF_EACH_MODE)
    thinking, empty = (pair_loss.losses(batch.of_rows(places(first))).mean() for first in (0, 2))
    for alpha in (0.0, 0.3, 1.0):
        mix = BVPO(alpha=alpha, pairwise=pairwise)(batch).mean()
        expected = alpha * thinking + (1 - alpha) * empty
        torch.testing.assert_close(mix, expected)
        torch.testing.assert_close(example.gradient_kept(mix), example.gradient_kept(expected), rtol=1e-9, atol=1e-12)


def places(first: int) -> torch.Tensor:
    """Rows of the pairs of a mode in items of four."""
    return torch.arange(B).view(-1, 4)[:, first : first + 2].reshape(-1)


def test_a_mode_without_weight_is_left_out_whatever_it_holds(example):
    batch = example.batch(PAIR_OF_EACH_MODE)
    broken = batch.ref_log_probs.clone()
    broken[places(2)] = math.inf
    losses = BVPO(alpha=1)(replace(batch, ref_log_probs=broken))
    torch.testing.assert_close(losses, DPO().losses(batch.of_rows(places(0))))


def test_the_block_of_an_empty_trace_counts_for_nothing(example):
    """The same tokens with the same log-probs on both sides: loss and gradient as if they were masked."""
    objective, batch = DPO(), example.batch(PAIR)
    block = torch.randn(B // 2, 3, dtype=torch.float64, requires_grad=True)
    both = block.repeat_interleave(2, 0)
    wider = replace(
        batch,
        log_probs=torch.cat([both, batch.log_probs], 1),
        ref_log_probs=torch.cat([torch.zeros_like(both), batch.ref_log_probs], 1),
        response_mask=torch.cat([torch.ones(B, 3, dtype=torch.bool), batch.response_mask], 1),
    )
    losses = objective(wider)
    torch.testing.assert_close(losses, objective(batch))
    on_block, on_logits = torch.autograd.grad(losses.sum(), [block, example.logits], retain_graph=True)
    assert on_block.abs().max() < 1e-12
    torch.testing.assert_close(on_logits, example.gradient(objective(batch).sum()))


def test_a_weight_that_is_estimated_comes_with_the_batch(example):
    batch = example.batch(PAIR_OF_EACH_MODE)
    torch.testing.assert_close(BVPO(alpha="auto")(replace(batch, mixing_weight=0.25)), BVPO(alpha=0.25)(batch))


@pytest.mark.parametrize("kind", [FPA, OneSidedFPA, SimPERFPA])
def test_a_lambda_that_is_found_comes_with_the_weights(example, kind):
    auto, fixed = kind(lam="auto"), kind(lam=2.0)
    assert auto.extrapolation is None
    assert auto.needs == fixed.needs
    batch = example.batch(fixed.roles)
    torch.testing.assert_close(auto(batch), fixed(batch))


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FPA(lam=-1.0), "lam=-1.0: fpa needs auto, or a number of at least 0"),
        (lambda: FPA(lam=math.nan), "lam=nan: fpa needs auto, or a number"),
        (lambda: FPA(lam="2"), "lam=2: fpa needs auto, or a number"),
        (lambda: DPO(beta=0.0), "beta=0.0: dpo needs a number above 0"),
        (lambda: DPO(beta=True), "beta=True: dpo needs a number"),
        (lambda: RPO(alpha=-0.1), "alpha"),
        (lambda: KTO(lambda_l=-1), "lambda_l"),
        (lambda: AStarPO(beta1=0), "beta1"),
        (lambda: BVPO(alpha=1.1), "alpha=1.1: bvpo needs auto, or a number of at least 0 and of at most 1"),
        (lambda: BVPO(alpha="half"), "alpha=half: bvpo needs auto"),
        (lambda: BVPO(pairwise="kto"), "pairwise=kto: bvpo needs one of dpo, dpo_fpa"),
        (lambda: BVPO(of_pair={"lam": 1.0}), "dpo does not take that"),
        (lambda: BVPO(of_pair={"beta": 0.0}), "of_pair.beta=0.0: dpo needs a number above 0"),
        (lambda: BVPO(of_pair=None), "of_pair=None: bvpo needs names and values"),
        (lambda: BVPO(alpha="auto", pairwise="simper"), "alpha=auto: bvpo estimates it for pairwise=dpo or dpo_fpa"),
        (lambda: KTraceDPO(traces=0), "traces=0: bvpo_k_trace needs a whole number of at least 1"),
        (lambda: KTraceDPO(traces=2.0), "traces=2.0: bvpo_k_trace needs a whole number"),
        (lambda: KTraceDPO(beta=0), "beta=0: bvpo_k_trace needs a number above 0"),
        (lambda: AStarPO(reward="sign"), "reward=sign: a_star_po needs one of signed, binary"),
        (lambda: OneSidedFPA(future_weight_on=None), "future_weight_on=None: fpa_one_sided needs one of right, wrong"),
        (lambda: KTO(z0=0.0), "z0=0.0: kto needs one of mean, clamped"),
    ],
)
def test_hyper_parameters_are_bounded(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_pairs_that_are_none_are_refused(example):
    batch = example.batch()
    for roles in (tuple(reversed(batch.roles)), ("trajectory",) * B, None):
        with pytest.raises(ValueError, match="dpo needs pairs: adjacent rows, their `roles` chosen, rejected"):
            DPO()(replace(batch, roles=roles))


def test_k_traces_that_are_none_are_refused(example):
    assert KTraceDPO(traces=3).roles == ("chosen",) * 3 + ("rejected",) * 3
    with pytest.raises(ValueError, match=r"bvpo_k_trace needs items of 4 rows: .* chosen, chosen, rejected, rejected"):
        KTraceDPO()(example.batch(PAIR))


def test_what_an_objective_needs_and_does_not_get_is_named(example):
    batch = example.batch()
    for objective, field, said in (
        (FPA(), "future_weights", "fpa got no weights of the future policy"),
        (KTO(), "reference_point", "kto got no z0"),
        (AStarPO(), "pass_rates", "a_star_po got no share of right trajectories"),
        (SFT(), "mean_length", "sft got no tokens a trajectory"),
        (BVPO(alpha="auto"), "mixing_weight", "bvpo got no weight of the gradient of traces"),
        (DPO(), "ref_log_probs", "dpo got no log-probabilities of the response under the reference"),
    ):
        with pytest.raises(ValueError, match=said):
            objective(replace(batch, **{field: None}))


def test_a_taken_name_is_refused():
    with pytest.raises(ValueError, match=r"'fpa' of .* is defined already"):

        class Other(Objective):
            name = "fpa"

            def losses(self, batch):
                return batch.log_prob()


@pytest.mark.parametrize("beta1", [0.5, 0.011, 0.0014, 1e-6, 1e-300, 50.0])
@pytest.mark.parametrize("reward", ["signed", "binary"])
def test_the_optimal_value_of_a_star_po_is_exact_for_any_beta1(beta1, reward):
    """beta1 log of the mean of exp(r / beta1), by mpmath with digits enough; for a small beta1 it nears the best r."""
    import mpmath

    objective = OBJECTIVES["a_star_po"](beta1=beta1, reward=reward)
    wrong = -1 if reward == "signed" else 0
    rates = torch.tensor([0.0, 0.125, 0.5, 0.875, 1.0], dtype=torch.float64)
    with mpmath.workdps(50):
        small = mpmath.mpf(beta1)
        means = [p * mpmath.exp(1 / small) + (1 - p) * mpmath.exp(wrong / small) for p in rates.tolist()]
        expected = [float(small * mpmath.log(mean)) for mean in means]
    assert objective.optimal_values(rates).tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert objective.optimal_values(rates.float()).isfinite().all()
