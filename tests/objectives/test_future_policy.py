"""Shape letters: N tokens, V vocabulary."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpa_verl.objectives import future_log_probs, log_normaliser

N, V = 37, 101


def draw(seed: int, dtype=torch.float64, scale: float = 3.0):
    generator = torch.Generator().manual_seed(seed)
    logits, ref = (torch.randn(N, V, generator=generator, dtype=torch.float64) * scale for _ in range(2))
    labels = torch.randint(V, (N,), generator=generator)
    return logits.to(dtype), ref.to(dtype), labels


def chosen(log_probs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return log_probs.gather(-1, labels[:, None]).squeeze(-1)


def test_by_hand():
    # h = (ln 4, 0), h_ref = (ln 2, 0), lam = 1: softmax(2 ln 4 - ln 2, 0) = softmax(ln 8, 0) = (8/9, 1/9).
    logits, ref = torch.tensor([[math.log(4), 0.0]]), torch.tensor([[math.log(2), 0.0]])
    assert future_log_probs(logits, ref, torch.tensor([0]), 1.0).item() == pytest.approx(math.log(8 / 9), abs=1e-6)
    assert future_log_probs(logits, ref, torch.tensor([1]), 1.0).item() == pytest.approx(math.log(1 / 9), abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), lam=st.floats(0, 10))
def test_equals_equation_4_with_its_normaliser(seed, lam):
    logits, ref, labels = draw(seed)
    policy, reference = logits.log_softmax(-1), ref.log_softmax(-1)
    expected = (
        (1 + lam) * chosen(policy, labels) - lam * chosen(reference, labels) - log_normaliser(policy, reference, lam)
    )
    torch.testing.assert_close(future_log_probs(logits, ref, labels, lam), expected, rtol=0, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), lam=st.floats(0, 10))
def test_normaliser_is_never_negative(seed, lam):
    logits, ref, _ = draw(seed)
    assert (log_normaliser(logits.log_softmax(-1), ref.log_softmax(-1), lam) >= -1e-9).all()


def test_future_policy_is_a_distribution():
    logits, ref, _ = draw(0)
    total = sum(future_log_probs(logits, ref, torch.full((N,), v), 2.0).exp() for v in range(V))
    torch.testing.assert_close(total, torch.ones(N, dtype=torch.float64))


@pytest.mark.parametrize("lam", [0.5, 2.0, 10.0])
def test_reference_equal_to_policy_makes_lambda_irrelevant(lam):
    logits, _, labels = draw(1)
    torch.testing.assert_close(
        future_log_probs(logits, logits + 5.0, labels, lam), chosen(logits.log_softmax(-1), labels), rtol=0, atol=1e-9
    )


def test_lambda_zero_is_the_policy():
    logits, ref, labels = draw(2)
    torch.testing.assert_close(future_log_probs(logits, ref, labels, 0.0), chosen(logits.log_softmax(-1), labels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_agrees_with_float64(dtype):
    logits, ref, labels = draw(3, dtype)
    exact = future_log_probs(logits.double(), ref.double(), labels, 2.0)
    result = future_log_probs(logits, ref, labels, 2.0)
    assert result.dtype == torch.float32
    # float32 arithmetic on logits of size 3 (1 + 2 lam) = 15: a few 1e-6.
    torch.testing.assert_close(result.double(), exact, rtol=0, atol=2e-5)


@pytest.mark.parametrize("chunk_elements", [1, V, 5 * V + 3, N * V])
def test_chunks_change_nothing(chunk_elements):
    logits, ref, labels = draw(4)
    torch.testing.assert_close(
        future_log_probs(logits, ref, labels, 2.0, chunk_elements=chunk_elements),
        future_log_probs(logits, ref, labels, 2.0),
        rtol=0,
        atol=1e-12,
    )


def test_leaves_logits_alone_and_carries_no_gradient():
    logits, ref, labels = draw(5, torch.float32)
    before = logits.clone()
    result = future_log_probs(logits.requires_grad_(), ref, labels, 2.0)
    assert not result.requires_grad
    assert torch.equal(logits, before)


def test_minus_infinity_in_both_is_excluded_by_neither_nan():
    # A token that the policy can never choose has no part in Z.
    logits, ref, labels = draw(6)
    logits[:, 0] = float("-inf")
    labels = labels.clamp(min=1)
    assert torch.isfinite(future_log_probs(logits, ref, labels, 2.0)).all()


def test_bad_input():
    logits, ref, labels = draw(7)
    with pytest.raises(ValueError, match="one shape"):
        future_log_probs(logits, ref[:, :-1], labels, 1.0)
    with pytest.raises(ValueError, match=r"labels \(N,\); got"):
        future_log_probs(logits, ref, labels[:-1], 1.0)
    for lam in (-1.0, math.nan):
        with pytest.raises(ValueError, match="at least 0"):
            future_log_probs(logits, ref, labels, lam)
