"""SVPO's terms: closed forms, what is masked, and gradients by finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from fpa_verl.errors import ConfigError
from fpa_verl.objectives import Trajectories
from fpa_verl.objectives.dpo import DPO
from fpa_verl.objectives.rpo import RPO
from fpa_verl.objectives.step_ends import StepEnds
from fpa_verl.objectives.step_values import StepValuePreference
from fpa_verl.objectives.value_head import FILE, ValueHead
from fpa_verl.roles import PAIR
from tests.objectives.conftest import B, T, log_probs_of, one_pair

H = 6
EVERYTHING = StepValuePreference(beta=0.3, sft_weight=0.7, mse_weight=0.5, rank_weight=0.9, margin=0.8)


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Steps:
    """Six pairs of rows, L = T positions each, with hidden states and a head; where the steps end differs by row."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.hidden = torch.randn(B, T, H, generator=generator, dtype=torch.float64).requires_grad_()
        self.targets = torch.rand(B, T, generator=generator, dtype=torch.float64) * 2 - 1
        self.mask = torch.rand(B, T, generator=generator) < 0.3
        self.mask[:, 4] = True
        torch.manual_seed(2)
        self.head = ValueHead(H, initializer_range=0.5).double().eval()

    def ends(self, hidden: torch.Tensor | None = None) -> StepEnds:
        return StepEnds(self.head(self.hidden if hidden is None else hidden), self.targets, self.mask)


@pytest.fixture
def steps() -> Steps:
    return Steps()


def pair_of_values(chosen: torch.Tensor, rejected: torch.Tensor, *targets: float) -> StepEnds:
    """One pair whose rows have a step end each."""
    return StepEnds(torch.stack([chosen, rejected])[:, None], f64(*targets)[:, None], torch.ones(2, 1).bool())


NO_MATTER = one_pair([1 / 2], [1 / 2], [math.log(1 / 2)], [math.log(1 / 2)])


# ---- step-level DPO is DPO ----------------------------------------------------------------------


def test_preference_and_likelihood_are_dpo_and_rpo(example, steps):
    terms = EVERYTHING.terms(example.batch(), steps.ends())
    torch.testing.assert_close(terms.preference, DPO(beta=0.3)(example.batch()))
    without_values = replace(EVERYTHING, mse_weight=0, rank_weight=0).terms(example.batch(), steps.ends()).total
    torch.testing.assert_close(without_values, RPO(beta=0.3, alpha=0.7)(example.batch()))
    torch.testing.assert_close(
        terms.total, terms.preference + 0.7 * terms.likelihood + 0.5 * terms.regression + 0.9 * terms.ranking
    )


def test_gradient_of_the_preference(example):
    """-beta sigmoid(-m) (grad log pi(w|s) - grad log pi(l|s)); at the reference the factor is beta / 2."""
    for at_reference in (False, True):
        batch = example.batch(at_reference=at_reference)
        margins = DPO(beta=0.3).margins(batch).detach()
        factor = 0.3 * torch.sigmoid(-margins)
        if at_reference:
            torch.testing.assert_close(factor, torch.full_like(factor, 0.15))
        chosen, rejected = DPO().by_role(batch.log_prob())
        expected = example.gradient_kept((-factor * (chosen - rejected)).sum())
        torch.testing.assert_close(example.gradient(DPO(beta=0.3)(batch).sum()), expected)


@given(st.integers(0, 5))
def test_a_common_prefix_cancels_in_a_pair_of_whole_solutions(common):
    """So that a pair of steps differs from one of solutions in where it stops, not in where it begins."""
    generator = torch.Generator().manual_seed(common)
    log_probs, reference = -torch.rand(2, 2, 8, generator=generator, dtype=torch.float64)
    log_probs[1, :common], reference[1, :common] = log_probs[0, :common], reference[0, :common]
    whole = torch.ones(2, 8).bool()
    step = whole & (torch.arange(8) >= common)
    losses = [DPO()(Trajectories(log_probs, mask, f64(1, -1), reference, roles=PAIR)) for mask in (whole, step)]
    torch.testing.assert_close(*losses)


def test_t5_soft_labels_lead_to_the_tilted_reference():
    """Labels as P(w beats l) = sigmoid(Q_w - Q_l) over all siblings: pi is proportional to pi_0 exp(Q / beta)."""
    q, reference, beta = f64(0.8, 0.1, -0.6), f64(0.5, 0.3, 0.2), 0.3
    # Each pair of siblings in both orders, as often as it is drawn in that order.
    rows = torch.tensor([0, 1, 1, 0, 0, 2, 2, 0, 1, 2, 2, 1])
    share = torch.sigmoid(q[rows[::2]] - q[rows[1::2]])
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    loss = StepValuePreference(beta=beta, sft_weight=0, mse_weight=0, rank_weight=0)

    def batch() -> Trajectories:
        log_probs = logits.log_softmax(-1)[rows, None]
        ones = torch.ones(12, 1).bool()
        return Trajectories(log_probs, ones, f64(*[1, -1] * 6), reference.log()[rows, None], roles=PAIR * 6)

    ends = StepEnds(torch.zeros(12, 1).double(), torch.zeros(12, 1).double(), torch.ones(12, 1).bool())
    optimiser = torch.optim.LBFGS([logits], lr=1, max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        total = (share * loss.terms(batch(), ends).total).sum()
        total.backward()
        return total

    optimiser.step(closure)
    assert logits.softmax(-1).tolist() == pytest.approx([0.94167, 0.05479, 0.00354], abs=5.1e-6)
    tilted = reference * (q / beta).exp()
    torch.testing.assert_close(logits.detach().softmax(-1), tilted / tilted.sum(), atol=1e-7, rtol=0)


def test_hard_labels_have_no_minimiser():
    for log_ratio in (0.0, 10.0, 100.0):
        pair = one_pair([0.5], [0.5], [math.log(0.5) - log_ratio], [math.log(0.5) + log_ratio])
        assert torch.autograd.grad(DPO()(pair).sum(), pair.log_probs)[0][0, 0] < 0


# ---- the value head's terms ---------------------------------------------------------------------


def test_regression_by_hand():
    ends = StepEnds(f64(0.5, 0, -0.5, 9)[None].reshape(2, 2), f64(1, 0, 0.5, 9).reshape(2, 2), torch.ones(2, 2).bool())
    # (.5^2 + 0 + 1 + 0) over four step ends.
    assert EVERYTHING.terms(NO_MATTER, ends).regression.tolist() == pytest.approx([1.25 / 4])


@pytest.mark.parametrize(("chosen", "rejected", "hinge"), [(0.6, 0.1, 0.3), (0.9, 0.0, 0.0), (-0.5, 0.5, 1.8)])
def test_ranking_by_hand(chosen, rejected, hinge):
    values = f64(chosen), f64(rejected)
    assert EVERYTHING.ranking(*values).item() == pytest.approx(hinge)
    logistic = replace(EVERYTHING, rank="logistic", scale=0.5)
    assert logistic.ranking(*values).item() == pytest.approx(math.log1p(math.exp(-(chosen - rejected) / 0.5)))


def test_the_logistic_form_never_stops():
    """A tanh's values are 2 apart at most: never below -log sigmoid(2) = .1269, and always pushing."""
    chosen = f64(1.0).requires_grad_()
    loss = StepValuePreference(rank="logistic").ranking(chosen, f64(-1.0))
    assert loss.item() == pytest.approx(0.1269, abs=5e-5)
    assert torch.autograd.grad(loss.sum(), chosen)[0] < 0


@given(
    st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 2), st.floats(0.1, 1.9), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)
)
def test_t6_minimiser_of_regression_and_hinge(chosen, rejected, weight, margin, off_chosen, off_rejected):
    """u = min(c, (gamma - d) / 2), outward, where the gap d is below gamma; else nothing moves. The loss is convex."""
    loss = StepValuePreference(sft_weight=0, mse_weight=1, rank_weight=weight, margin=margin)

    def total(*values: float) -> float:
        return loss.terms(
            NO_MATTER, pair_of_values(f64(values[0])[0], f64(values[1])[0], chosen, rejected)
        ).total.item()

    outward = min(weight, max(0.0, margin - (chosen - rejected)) / 2)
    best = chosen + outward, rejected - outward
    assert total(*best) <= total(best[0] + off_chosen, best[1] + off_rejected) + 1e-9
    # Half the squares are what a mean over the two step ends is.
    gap = best[0] - best[1]
    by_hand = math.log(2) + outward**2 + weight * max(0.0, margin - gap)
    assert total(*best) == pytest.approx(by_hand)


def test_t6_regression_alone_gives_q():
    values = f64(0.3, -0.2).requires_grad_()
    loss = StepValuePreference(sft_weight=0, mse_weight=1, rank_weight=0)
    total = loss.terms(NO_MATTER, pair_of_values(*values, 0.3, -0.2)).total.sum()
    assert total.item() == pytest.approx(math.log(2))
    assert torch.autograd.grad(total, values)[0].tolist() == [0, 0]


# ---- what is masked -----------------------------------------------------------------------------


def test_t7_tokens_of_the_prefix_and_of_an_interpreter_are_not_scored(example, steps):
    """Rows of prefix, step and output as one sequence: the mask is what makes the step's own tokens the response."""
    scored = torch.zeros(B, T).bool()
    scored[:, 3:5], scored[:, 7] = True, True
    batch = replace(example.batch(), response_mask=scored)
    terms = EVERYTHING.terms(batch, steps.ends())
    gradient = example.gradient_kept((terms.preference + terms.likelihood).sum())
    assert gradient[~scored].abs().max() == 0
    assert (gradient[scored].abs().sum(-1) > 0).all()
    logits = example.logits.detach().clone()
    logits[~scored] += 3
    moved = replace(batch, log_probs=log_probs_of(logits, example.labels))
    assert torch.equal(EVERYTHING.terms(moved, steps.ends()).preference, terms.preference)


def test_t7_only_hidden_states_at_step_ends_count(example, steps):
    batch = example.batch()
    terms = EVERYTHING.terms(batch, steps.ends())
    gradient = torch.autograd.grad((terms.regression + terms.ranking).sum(), steps.hidden)[0]
    assert gradient[~steps.mask].abs().max() == 0
    hidden = steps.hidden.detach().clone()
    hidden[~steps.mask] = math.nan
    moved = EVERYTHING.terms(batch, steps.ends(hidden.requires_grad_()))
    assert torch.equal(moved.regression, terms.regression)
    assert torch.equal(moved.ranking, terms.ranking)
    total = (moved.regression + moved.ranking).sum()
    assert torch.equal(torch.autograd.grad(total, hidden)[0][steps.mask], gradient[steps.mask])


def test_the_last_step_end_of_a_row_is_its_own():
    mask = torch.tensor([[True, False, True, False], [False, True, False, False], [False] * 4])
    values = torch.arange(12.0).reshape(3, 4)
    assert StepEnds(values, values, mask).own().tolist() == [2, 5, 0]


def test_rows_without_a_step_end_add_nothing_and_back_propagate(example, steps):
    batch = replace(example.batch(), response_mask=torch.zeros(B, T).bool())
    empty = replace(steps.ends(), mask=torch.zeros(B, T).bool())
    terms = EVERYTHING.terms(batch, empty)
    assert terms.total.tolist() == [0] * (B // 2)
    assert torch.autograd.grad(terms.total.sum(), steps.hidden)[0].abs().max() == 0


# ---- gradients, and what must not matter --------------------------------------------------------


@pytest.mark.parametrize("term", ["preference", "likelihood", "regression", "ranking", "total"])
@pytest.mark.parametrize("rank", ["hinge", "logistic"])
def test_t10_by_finite_differences(example, steps, term, rank):
    loss, parameters = replace(EVERYTHING, rank=rank), list(steps.head.parameters())

    def value(logits, hidden, *_):
        batch = replace(example.batch(), log_probs=log_probs_of(logits, example.labels))
        return getattr(loss.terms(batch, steps.ends(hidden)), term)

    assert torch.autograd.gradcheck(value, (example.logits, steps.hidden, *parameters), fast_mode=True)


def test_micro_batches_add_up(example, steps):
    whole = EVERYTHING.terms(example.batch(), steps.ends()).total
    per_pair = steps.mask.sum().item() / (B // 2)
    for rows in (torch.arange(4), torch.arange(4, B)):
        batch, ends = example.batch().of_rows(rows), steps.ends()
        part = StepEnds(ends.values[rows], ends.targets[rows], ends.mask[rows], per_pair)
        pairs = slice(int(rows[0]) // 2, int(rows[-1]) // 2 + 1)
        torch.testing.assert_close(EVERYTHING.terms(batch, part).total, whole[pairs])


def test_padding_of_either_side_changes_nothing(example, steps):
    ends = steps.ends()
    whole = EVERYTHING.terms(example.batch(), ends).total
    pad = (3, 2)
    padded = StepEnds(
        torch.nn.functional.pad(ends.values, pad, value=math.nan),
        torch.nn.functional.pad(ends.targets, pad, value=math.inf),
        torch.nn.functional.pad(ends.mask, pad),
    )
    torch.testing.assert_close(EVERYTHING.terms(example.batch(), padded).total, whole)


def test_a_term_of_no_weight_is_left_out_whatever_it_is(example, steps):
    ends = replace(steps.ends(), targets=torch.full((B, T), math.nan, dtype=torch.float64))
    total = replace(EVERYTHING, mse_weight=0).terms(example.batch(), ends).total
    assert torch.isfinite(total).all()


@pytest.mark.parametrize("changes", [{"beta": 0}, {"mse_weight": -1}, {"margin": 2.5}, {"scale": 0}, {"rank": "x"}])
def test_settings_out_of_bounds_are_named(changes):
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"{name}={value}: svpo needs"):
        StepValuePreference(**changes)


# ---- the head -----------------------------------------------------------------------------------


def test_the_head_is_tanh_of_a_linear_layer(steps):
    weight, bias = steps.head.linear.weight, steps.head.linear.bias
    expected = torch.tanh((steps.hidden * weight[0]).sum(-1) + bias)
    torch.testing.assert_close(steps.head(steps.hidden), expected)


def test_values_begin_near_0():
    torch.manual_seed(0)
    head = ValueHead(1024).eval()
    assert head.linear.bias.item() == 0
    assert head.linear.weight.std().item() == pytest.approx(0.02, rel=0.1)
    # Of states of unit variance the standard deviation is .02 * 32.
    assert head(torch.randn(4000, 1024) / 32).abs().max() < 0.1


def test_dropout_in_training_alone():
    head = ValueHead(1024, initializer_range=1.0)
    hidden = torch.randn(1024)
    assert head.train()(hidden) != head(hidden)
    assert head.eval()(hidden) == head(hidden)


def test_a_head_of_single_precision_reads_states_of_half():
    assert ValueHead(H)(torch.zeros(3, H, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_loads_as_it_was_saved(tmp_path, dtype):
    head = ValueHead(H, dropout=0.25).to(dtype)
    head.save(tmp_path)
    loaded = ValueHead.load(tmp_path)
    assert loaded.dropout.p == 0.25
    for name, value in head.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
        assert loaded.state_dict()[name].dtype == dtype


def test_a_head_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no value head at"):
        ValueHead.load(tmp_path)
    ValueHead(H).save(tmp_path)
    file, state = tmp_path / FILE, load_file(tmp_path / FILE)
    for damaged in (state, {"x": state["linear.bias"]}, {**state, "linear.bias": torch.zeros(2)}):
        save_file(damaged, file, metadata={"dropout": "0.1"} if damaged is not state else None)
        with pytest.raises(ConfigError, match=f"{FILE} is damaged"):
            ValueHead.load(tmp_path)
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ConfigError, match=f"{FILE} is damaged"):
        ValueHead.load(tmp_path)
