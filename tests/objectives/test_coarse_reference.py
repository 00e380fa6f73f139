"""The cached reference: bounds that tighten with K, an estimate by samples, equality where nothing is left out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fpa_verl.objectives import (
    SelectedRows,
    coarse_future_log_probs,
    coarse_future_policy,
    coarsen,
    future_log_probs,
    label_log_probs,
)

N, V = 40, 50


def example(seed: int, drift: float = 1.0, scale: float = 3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    ref = scale * torch.randn(N, V, generator=generator, dtype=dtype)
    logits = ref + drift * torch.randn(N, V, generator=generator, dtype=dtype)
    return logits, ref, torch.randint(V, (N,), generator=generator)


def coarse(logits, ref, labels, lam, k, samples=0):
    return coarse_future_log_probs(logits, coarsen(ref, labels, k, samples), labels, lam)


def test_kept_tokens_by_hand():
    ref = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]]))
    reference = coarsen(ref, torch.tensor([3, 2]), k=2)
    # The label 3 takes the place of the second most likely token; the label 2 is among the two.
    assert [sorted(row) for row in reference.tokens.tolist()] == [[0, 3], [2, 3]]
    assert reference.labels.exp().tolist() == pytest.approx([0.05, 0.3])
    assert reference.tail.exp().tolist() == pytest.approx([0.45, 0.3])


def test_by_hand():
    """Policy (1/2, 1/4, 1/4), reference (1/4, 1/2, 1/4), lam 1, K 1: buckets (1/2, 1/2) and (1/4, 3/4)."""
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64))
    ref = torch.log(torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64))
    # Z^ = (1/4) / (1/4) + (1/4) / (3/4) = 4/3; pi_hat = (1/4) / (1/4) / Z^ = 3/4.
    assert coarse(logits, ref, torch.tensor([0]), 1.0, 1).exp().item() == pytest.approx(0.75)


@given(seed=st.integers(0, 10_000), lam=st.sampled_from([0.5, 2.0, 5.0]), drift=st.sampled_from([0.1, 1.0, 3.0]))
@settings(max_examples=50, deadline=None)
def test_never_below_the_exact_value_and_tighter_with_every_token(seed, lam, drift):
    logits, ref, labels = example(seed, drift)
    policy, reference = label_log_probs(logits, labels), label_log_probs(ref, labels)
    bounds = [(1 + lam) * policy - lam * reference]
    bounds += [coarse(logits, ref, labels, lam, k) for k in (1, 4, 16, V)]
    exact = future_log_probs(logits, ref, labels, lam)
    # The tokens of a smaller k are among those of a larger one, the label included.
    for looser, tighter in pairwise(bounds):
        assert bool((tighter <= looser + 1e-9).all())
    torch.testing.assert_close(bounds[-1], exact)


def test_samples_by_hand():
    """Quantiles 0 and 1/2 of what is left of (0.5, 0.1, 0.2, 0.2) without the first: of (0.2, 0.4, 0.4)."""
    ref = torch.log(torch.tensor([[0.5, 0.1, 0.2, 0.2]], dtype=torch.float64))
    reference = coarsen(ref, torch.tensor([0]), 1, samples=2)
    assert reference.samples.tolist() == [[1, 2]]
    assert reference.sample_log_probs.exp().tolist()[0] == pytest.approx([0.1, 0.2])
    logits = torch.log(torch.tensor([[0.5, 0.06, 0.36, 0.08]], dtype=torch.float64))
    # Tails of one mass, so that rho is 0.6 and 1.8; lam 1: b(x) = (x - 1)^2 = 0.16 and 0.64, mean 0.4.
    # Z^ = 0.5^2 / 0.5 + 0.5^2 / 0.5 (1 + 0.4) = 1.2; pi_hat = 0.5^2 / 0.5 / Z^.
    found = coarse_future_policy(logits, reference, torch.tensor([0]), 1.0)
    assert found.log_probs.exp().item() == pytest.approx(0.5 / 1.2)
    # b is 0.24 to either side of its mean: the standard error of that mean.
    assert found.error.item() == pytest.approx(0.5 * 0.24 / 1.2)
    # Mean of rho: 1.2, no less than 1.
    assert found.missed.item() == 0


def test_what_no_sample_shows_by_hand():
    """The fourth token, which the policy has come to like, is not among the quantiles 0 and 1/2 of (0.4, 0.4, 0.2)."""
    ref = torch.log(torch.tensor([[0.5, 0.2, 0.2, 0.1]], dtype=torch.float64))
    reference = coarsen(ref, torch.tensor([0]), 1, samples=2)
    assert reference.samples.tolist() == [[1, 2]]
    logits = torch.log(torch.tensor([[0.5, 0.1, 0.1, 0.3]], dtype=torch.float64))
    found = coarse_future_policy(logits, reference, torch.tensor([0]), 1.0)
    # rho is 0.5 at both: b is 0.25, and Z^ = 0.5 + 0.5 * 1.25. Short by 0.5, which adds 0.5^2 * 2 to the tail's 0.5.
    assert found.log_probs.exp().item() == pytest.approx(0.5 / 1.125)
    assert found.error.item() == pytest.approx(0, abs=1e-9)
    assert found.missed.exp().item() == pytest.approx(1 + 0.5 * 0.5 / 1.125)
    # Z is 0.5 + 0.05 + 0.05 + 0.9 = 1.5.
    exact = future_log_probs(logits, ref, torch.tensor([0]), 1.0)
    assert exact <= found.log_probs - found.missed


def test_a_rare_token_that_the_policy_has_come_to_like_is_noticed():
    ref = torch.full((1, 1000), 1e-5, dtype=torch.float64).log()
    ref[0, :5] = torch.tensor([0.5, 0.25, 0.15, 0.05, 0.04]).log()
    logits = ref.clone()
    logits[0, -1] = torch.tensor(0.2).log()
    found = coarse_future_policy(logits, coarsen(ref, torch.tensor([0]), 4, 32), torch.tensor([0]), 2.0)
    exact = future_log_probs(logits, ref, torch.tensor([0]), 2.0)
    assert (found.log_probs - exact).item() > 1
    assert found.missed.item() > 1


def test_samples_of_a_tail_that_float32_cannot_hold():
    """Mass of about 1e-48: its quantiles are those of what it is in proportion."""
    ref = torch.tensor([[-110.0, -112.0, -111.0, 0.0]] * 2)
    reference = coarsen(ref, torch.tensor([3, 3]), 1, samples=64)
    shares = torch.stack([(reference.samples == token).float().mean(-1) for token in range(4)], -1)
    expected = torch.tensor([0.665, 0.090, 0.245, 0.0])  # softmax of (0, -2, -1)
    assert (shares - expected).abs().max() < 2 / 64
    assert torch.isfinite(coarse_future_policy(ref, reference, torch.tensor([3, 3]), 2.0).log_probs).all()


@given(
    seed=st.integers(0, 10_000),
    lam=st.sampled_from([0.5, 2.0, 5.0]),
    drift=st.sampled_from([0.1, 1.0, 3.0]),
    samples=st.integers(1, 9),
)
@settings(max_examples=50, deadline=None)
def test_samples_only_take_away_from_the_bound(seed, lam, drift, samples):
    logits, ref, labels = example(seed, drift)
    assert bool((coarse(logits, ref, labels, lam, 4, samples) <= coarse(logits, ref, labels, lam, 4) + 1e-9).all())


@given(seed=st.integers(0, 10_000), lam=st.sampled_from([0.5, 2.0]), drift=st.sampled_from([0.1, 0.5]))
@settings(max_examples=50, deadline=None)
@pytest.mark.patient
def test_many_samples_are_the_whole_tail(seed, lam, drift):
    logits, ref, labels = example(seed, drift)
    exact = future_log_probs(logits, ref, labels, lam)
    bound, sampled = (coarse(logits, ref, labels, lam, 4, samples) - exact for samples in (0, 20_000))
    assert sampled.abs().max() < 0.05 * bound.max()


@pytest.mark.parametrize("drift", [0.1, 0.3])
def test_the_error_says_how_far_the_estimate_is_off(drift):
    deviations = []
    for seed in range(20):
        logits, ref, labels = example(seed, drift)
        found = coarse_future_policy(logits, coarsen(ref, labels, 4, 16), labels, 2.0)
        exact = future_log_probs(logits, ref, labels, 2.0)
        deviations.append((found.log_probs - exact) / found.error)
    # Quantiles are spread more evenly than random draws: nearer than the error says, seldom much farther.
    assert 0.2 < torch.cat(deviations).abs().median() < 1
    assert torch.cat(deviations).abs().quantile(0.9) < 3


def test_no_error_without_samples_or_with_nothing_left_to_chance():
    logits, ref, labels = example(7)
    for samples in (0, 1):
        found = coarse_future_policy(logits, coarsen(ref, labels, 4, samples), labels, 2.0)
        assert (found.error.isnan() & found.missed.isnan()).all()
    found = coarse_future_policy(ref, coarsen(ref, labels, 4, 8), labels, 2.0)
    assert (found.error + found.missed).abs().max() < 1e-12
    # All tokens are kept: there is no tail.
    found = coarse_future_policy(logits, coarsen(ref, labels, V, 8), labels, 2.0)
    assert (found.error + found.missed).abs().max() == 0
    torch.testing.assert_close(found.log_probs, future_log_probs(logits, ref, labels, 2.0))


def test_lambda_zero_and_policy_at_the_reference():
    logits, ref, labels = example(1)
    for samples in (0, 8):
        torch.testing.assert_close(coarse(logits, ref, labels, 0.0, 4, samples), label_log_probs(logits, labels))
        torch.testing.assert_close(coarse(ref, ref, labels, 3.0, 4, samples), label_log_probs(ref, labels))


def test_a_tail_too_small_to_subtract_from_one():
    """Mass 1e-20 in the tail: 1 - sum would be 0 or noise, which (1 + lam) would blow up."""
    logits = torch.tensor([[0.0, -46.0, -46.0]])
    ref = torch.tensor([[0.0, -50.0, -50.0]])
    labels = torch.tensor([0])
    exact = future_log_probs(logits.double(), ref.double(), labels, 5.0)
    assert coarse(logits, ref, labels, 5.0, 1).item() == pytest.approx(exact.item(), abs=1e-6)


def test_chunks_change_nothing_and_bfloat16_logits_are_read_as_they_are():
    logits, ref, labels = example(2, dtype=torch.float32)
    reference = coarsen(ref, labels, 8, 8)
    whole = coarse_future_log_probs(logits.bfloat16(), reference, labels, 2.0)
    in_parts = coarse_future_log_probs(logits.bfloat16(), reference, labels, 2.0, chunk_elements=3 * V)
    torch.testing.assert_close(in_parts, whole, rtol=0, atol=0)
    torch.testing.assert_close(coarse_future_log_probs(logits.bfloat16().float(), reference, labels, 2.0), whole)
    parts = coarsen(ref, labels, 8, 8, chunk_elements=V)
    for name in ("labels", "tokens", "log_probs", "tail", "samples", "sample_log_probs"):
        torch.testing.assert_close(getattr(parts, name), getattr(reference, name))


def test_float16_log_probs_are_enough():
    logits, ref, labels = example(4, drift=0.3, dtype=torch.float32)
    reference = coarsen(ref, labels, 16, 16)
    rounded = replace(
        reference, log_probs=reference.log_probs.half(), sample_log_probs=reference.sample_log_probs.half()
    )
    lam = 2.0
    difference = coarse_future_log_probs(logits, rounded, labels, lam) - coarse_future_log_probs(
        logits, reference, labels, lam
    )
    assert difference.abs().max() < lam * 4e-3


def test_selected_rows_are_read_chunk_by_chunk():
    logits, ref, labels = example(5)
    index = torch.tensor([3, 0, 17, 39, 18])
    selected = future_log_probs(
        SelectedRows(logits, index), SelectedRows(ref, index), labels[index], 2.0, chunk_elements=2 * V
    )
    torch.testing.assert_close(selected, future_log_probs(logits, ref, labels, 2.0)[index])
    kept = coarsen(SelectedRows(ref, index), labels[index], 4)
    found = coarse_future_log_probs(SelectedRows(logits, index), kept, labels[index], 2.0)
    torch.testing.assert_close(found, coarse(logits, ref, labels, 2.0, 4)[index])


def test_nothing_is_written_to_the_logits():
    logits, ref, labels = example(6, dtype=torch.float32)
    before = logits.clone(), ref.clone()
    coarse(logits, ref, labels, 2.0, 4)
    assert torch.equal(logits, before[0])
    assert torch.equal(ref, before[1])


def test_samples_are_not_negative():
    logits, ref, labels = example(0)
    with pytest.raises(ValueError, match="samples must be at least 0; got -1"):
        coarse(logits, ref, labels, 1.0, 4, -1)


@pytest.mark.parametrize("k", [0, V + 1])
def test_k_is_bounded(k):
    logits, ref, labels = example(0)
    with pytest.raises(ValueError, match=f"k must be between 1 and the vocabulary's {V}"):
        coarse(logits, ref, labels, 1.0, k)
