"""Shape letters: N positions of a trajectory, V vocabulary."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpa_verl.objectives import future_log_probs
from fpa_verl.objectives.foresight import Foresight, _jackknife, farthest, foresight, moments

N, V = 7, 23


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def shifted(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same policy: a constant of its own is added at every position."""
    return logits + 10 * normal(generator, len(logits), 1)


def looks(generator: torch.Generator, moves: list[torch.Tensor], start: torch.Tensor):
    """Policies after each of the moves, the first before any."""
    found = [start]
    for move in moves:
        found.append(found[-1] + move)
    return [shifted(one, generator) for one in found]


def test_by_hand():
    # p = (1/2, 1/2); a = (2, 0) varies by 1, b = (1, 3) by 1, and they move against each other.
    zeros = torch.zeros(1, 2, dtype=torch.float64)
    a, b = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[1.0, 3.0]]).double()
    torch.testing.assert_close(moments(zeros - a, zeros, zeros + b), torch.tensor([[1.0, -1.0, 1.0, 0.0]]).double())
    found = foresight([torch.tensor([[1.0, 2.0, 8.0, 0.0]]), torch.tensor([[3.0, 2.0, 2.0, 0.0]])])
    # lambda 4/4, explained 16/40; at 2: 1 - (10 - 16 + 16)/10. Tokens' own: 2 and 2/3, weighted 1 and 3.
    assert (found.lam, found.explained, found.at(2.0)) == (1.0, pytest.approx(0.4), pytest.approx(0.0))
    assert found.spread == pytest.approx(math.sqrt((1 * 1 + 3 / 9) / 4))
    # Without the first 2/3, without the second 2: half of the squares about 4/3.
    assert found.error == pytest.approx(math.sqrt((4 / 9 + 4 / 9) / 2))
    assert not found.predicts


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    vocabulary=st.integers(2, 60),
    before=st.integers(1, 40),
    ahead=st.integers(1, 80),
    scale=st.floats(0.01, 1.0),
)
def test_a_run_that_moves_linearly_is_foreseen_exactly(seed, vocabulary, before, ahead, scale):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(4):
        start, slope = (normal(generator, N, vocabulary) for _ in range(2))
        slope = scale * slope / 40
        found.append(moments(*looks(generator, [before * slope, ahead * slope], start)))
    whole = foresight(found)
    assert whole.lam == pytest.approx(ahead / before, rel=1e-6)
    assert whole.explained == pytest.approx(1, abs=1e-6)
    assert whole.error == pytest.approx(0, abs=1e-6 * whole.lam)
    assert whole.spread == pytest.approx(0, abs=1e-4 * whole.lam)
    assert whole.predicts


@pytest.mark.parametrize("seed", range(20))
def test_no_lambda_predicts_a_run_that_moves_at_random(seed):
    generator = torch.Generator().manual_seed(seed)
    found = [
        moments(*looks(generator, [normal(generator, N, 200) for _ in range(2)], normal(generator, N, 200)))
        for _ in range(16)
    ]
    whole = foresight(found)
    assert not whole.predicts
    assert whole.explained < 0.05
    assert abs(whole.lam) < 4 * whole.error


def test_no_lambda_predicts_a_run_that_turns_back():
    generator = torch.Generator().manual_seed(0)
    slope = normal(generator, 16, N, V)
    whole = foresight([moments(*looks(generator, [one, -one / 2], torch.zeros(N, V).double())) for one in slope])
    assert (whole.lam, whole.explained) == (pytest.approx(-0.5), pytest.approx(1))
    assert not whole.predicts


def test_the_future_policy_of_the_best_lambda_is_the_policy_that_came():
    generator = torch.Generator().manual_seed(1)
    start, slope = normal(generator, N, V), normal(generator, N, V)
    reference, policy, later = looks(generator, [2 * slope, 3 * slope], start)
    lam = foresight([moments(reference, policy, later)]).lam
    for token in range(V):
        labels = torch.full((N,), token)
        torch.testing.assert_close(
            future_log_probs(policy, reference, labels, lam), later.log_softmax(-1)[:, token], rtol=0, atol=1e-9
        )


def test_half_of_what_is_left_is_the_divergence_of_the_two_policies():
    generator = torch.Generator().manual_seed(2)
    start = normal(generator, 64, V)
    reference, policy, later = looks(generator, [0.03 * normal(generator, 64, V) for _ in range(2)], start)
    found = foresight([moments(reference, policy, later)])
    predicted = torch.lerp(reference, policy, 1 + found.lam).log_softmax(-1)
    came = later.log_softmax(-1)
    divergence = (came.exp() * (came - predicted)).sum()
    left = (1 - found.explained) * found.future / 2
    assert divergence.item() == pytest.approx(left, rel=0.05)


def test_the_error_is_that_of_leaving_out_one_trajectory_at_a_time():
    generator = torch.Generator().manual_seed(3)
    found = [
        moments(*looks(generator, list(normal(generator, 2, n, V)), normal(generator, n, V))) for n in (1, 4, 7, 7, 2)
    ]
    without = torch.tensor([foresight(found[:i] + found[i + 1 :]).lam for i in range(5)], dtype=torch.float64)
    expected = math.sqrt(4 / 5 * (without - without.mean()).square().sum())
    assert foresight(found).error == pytest.approx(expected, rel=1e-9)
    assert math.isnan(_jackknife(torch.ones(1, 3)))
    assert not foresight(found[:1]).predicts


@pytest.mark.parametrize("chunk_elements", [1, V, 2 * V + 3, N * V])
def test_chunks_change_nothing(chunk_elements):
    generator = torch.Generator().manual_seed(4)
    logits = list(normal(generator, 3, N, V))
    torch.testing.assert_close(moments(*logits, chunk_elements=chunk_elements), moments(*logits), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-5)])
def test_lower_precision_adds_no_more_than_its_inputs(dtype, rtol):
    generator = torch.Generator().manual_seed(5)
    rounded = [one.to(dtype) for one in 3 * normal(generator, 3, N, V)]
    found = moments(*rounded)
    assert found.dtype == torch.float64
    precise = moments(*(one.double() for one in rounded))
    torch.testing.assert_close(found[:, :3], precise[:, :3], rtol=rtol, atol=1e-6)
    assert not precise[:, 3].any()


def in_bfloat16(move: float):
    """A run that moves linearly, lambda 1, of peaked logits of about 20, as its engine rounds them."""
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(64):
        start = 5 + 3 * normal(generator, 8, 500)
        tops = torch.rand(8, 500, generator=generator, dtype=torch.float64).topk(8).indices
        start.scatter_(1, tops, 22 + 3 * torch.rand(8, 8, generator=generator, dtype=torch.float64))
        step = move * normal(generator, 8, 500)
        found.append(moments(*((start + times * step).bfloat16() for times in range(3))))
    return foresight(found)


@pytest.mark.parametrize(("move", "lam"), [(0.02, 0.05), (0.05, 0.28), (0.1, 0.69)])
def test_a_policy_that_moved_little_beyond_the_rounding_of_its_logits_is_not_foreseen(move, lam):
    found = in_bfloat16(move)
    assert found.lam == pytest.approx(lam, abs=0.05)
    assert found.policy < 10 * found.rounding
    assert not found.predicts


def test_a_policy_that_moved_well_beyond_it_is():
    found = in_bfloat16(0.2)
    assert found.lam == pytest.approx(0.9, abs=0.03)
    assert found.predicts
    # By twice the variance of one rounding, of which both ends of a have one.
    assert found.rounding / found.policy == pytest.approx(0.065, abs=0.02)
    assert in_bfloat16(0.5).lam == pytest.approx(1, abs=0.04)


def test_a_token_that_cannot_come_has_no_part():
    generator = torch.Generator().manual_seed(6)
    logits = list(normal(generator, 3, N, V))
    barred = [torch.cat([one, torch.full((N, 1), -math.inf).double()], dim=1) for one in logits]
    torch.testing.assert_close(moments(*barred), moments(*logits))


def test_where_nothing_has_moved_there_is_nothing_to_say():
    generator = torch.Generator().manual_seed(7)
    start, moved = normal(generator, N, V), normal(generator, N, V)
    assert foresight([moments(start, start, moved)]) is None
    assert foresight([moments(start, moved, moved)]) is None


def test_lambda_goes_as_far_as_half_of_the_change_was_explained():
    assert farthest([(0.5, 0.9), (1.0, 0.5), (2.0, 0.49)]) == 1.0
    assert farthest([(0.5, 0.4), (3.0, math.nan)]) is None
    assert farthest([]) is None


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"one shape \(N, V\); got \(7, 23\), \(7, 23\) and \(6, 23\)"):
        moments(torch.zeros(N, V), torch.zeros(N, V), torch.zeros(N - 1, V))


def test_a_lambda_above_nothing_predicts_only_if_it_explains_something():
    known = {"spread": 0.0, "policy": 1.0, "both": 0.3, "future": 1.0}
    assert not Foresight(lam=0.3, error=0.01, **known).predicts
    assert not Foresight(lam=0.3, error=0.2, **{**known, "future": 0.1}).predicts
    assert Foresight(lam=0.3, error=0.1, **{**known, "future": 0.1}).predicts
