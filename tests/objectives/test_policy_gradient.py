"""Shape letters: B sequences, T response tokens."""

from __future__ import annotations

import math

import pytest
import torch

from fpa_verl.objectives import (
    future_log_probs,
    policy_gradient_loss,
    policy_gradient_terms,
    sequence_mean,
    trajectory_weights,
)

B, T, V = 6, 9, 13


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits, ref = (torch.randn(B, T, V, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.randint(V, (B, T), generator=generator)
    lengths = torch.tensor([9, 1, 4, 7, 2, 5])
    mask = torch.arange(T) < lengths[:, None]
    rewards = torch.tensor([1.0, -1, 1, -1, -1, 1], dtype=torch.float64)
    return logits.requires_grad_(), ref, labels, mask, rewards


def log_probs_of(logits, labels):
    return logits.log_softmax(-1).gather(-1, labels[..., None]).squeeze(-1)


def future_of(logits, ref, labels, lam):
    flat = future_log_probs(logits.flatten(0, 1), ref.flatten(0, 1), labels.flatten(), lam)
    return flat.view(labels.shape)


def test_weight_by_hand():
    # Two tokens of probability 1/2 and 1/8: geometric mean 1/4. The masked third does not count.
    log_probs = torch.tensor([[math.log(1 / 2), math.log(1 / 8), 99.0]])
    mask = torch.tensor([[True, True, False]])
    assert trajectory_weights(log_probs, mask).item() == pytest.approx(0.25)


def test_loss_by_hand():
    # R = -1, w = 1/4, mean log-prob = ln(1/16)/2 = -1.3863: loss = -(-1)(0.25)(-1.3863) = -0.34657.
    log_probs = torch.tensor([[math.log(1 / 2), math.log(1 / 8)]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    weights = trajectory_weights(log_probs, mask)
    loss = policy_gradient_loss(log_probs, weights, torch.tensor([-1.0]), mask)
    assert loss.item() == pytest.approx(-0.25 * math.log(4))


def test_gradient_is_equation_2(batch):
    """The detached weight gives the gradient of J = mean R pi(y)^(1/|y|) itself (Eq. 1)."""
    logits, _, labels, mask, rewards = batch
    log_probs = log_probs_of(logits, labels)
    loss = policy_gradient_loss(log_probs, trajectory_weights(log_probs, mask), rewards, mask)
    (detached,) = torch.autograd.grad(loss, logits, retain_graph=True)
    objective = (rewards * sequence_mean(log_probs, mask).exp()).mean()
    (closed_form,) = torch.autograd.grad(-objective, logits)
    torch.testing.assert_close(detached, closed_form)


def test_lambda_zero_is_off_rl_in_value_and_gradient(batch):
    logits, ref, labels, mask, rewards = batch
    log_probs = log_probs_of(logits, labels)
    results = []
    for weights in (
        trajectory_weights(log_probs, mask),
        trajectory_weights(future_of(logits.detach(), ref, labels, 0.0), mask),
    ):
        loss = policy_gradient_loss(log_probs, weights, rewards, mask)
        results.append((loss, *torch.autograd.grad(loss, logits, retain_graph=True)))
    torch.testing.assert_close(results[0], results[1])


def test_reference_equal_to_policy_gives_off_rl_for_every_lambda(batch):
    logits, _, labels, mask, _ = batch
    log_probs = log_probs_of(logits, labels)
    expected = trajectory_weights(log_probs, mask)
    for lam in (0.5, 2.0, 10.0):
        torch.testing.assert_close(
            trajectory_weights(future_of(logits.detach(), logits.detach(), labels, lam), mask), expected
        )


def test_only_the_policy_carries_gradient(batch):
    logits, ref, labels, mask, rewards = batch
    log_probs = log_probs_of(logits, labels)
    weights = trajectory_weights(future_of(logits, ref.requires_grad_(), labels, 2.0), mask)
    assert not weights.requires_grad
    policy_gradient_loss(log_probs, weights, rewards, mask).backward()
    assert ref.grad is None


def test_padding_has_no_part(batch):
    logits, _, labels, mask, rewards = batch
    log_probs = log_probs_of(logits, labels)
    weights = trajectory_weights(log_probs, mask)
    garbage = torch.where(mask, log_probs, torch.nan)
    torch.testing.assert_close(trajectory_weights(garbage, mask), weights)
    torch.testing.assert_close(
        policy_gradient_loss(garbage, weights, rewards, mask), policy_gradient_loss(log_probs, weights, rewards, mask)
    )


def test_order_of_sequences_has_no_part(batch):
    logits, _, labels, mask, rewards = batch
    log_probs = log_probs_of(logits, labels)
    order = torch.randperm(B, generator=torch.Generator().manual_seed(1))
    weights = trajectory_weights(log_probs, mask)
    torch.testing.assert_close(
        policy_gradient_loss(log_probs[order], weights[order], rewards[order], mask[order]),
        policy_gradient_loss(log_probs, weights, rewards, mask),
    )


def test_all_masked_row_adds_zero_and_still_back_propagates():
    log_probs = torch.zeros(2, 3, requires_grad=True)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    weights = trajectory_weights(log_probs, mask)
    loss = policy_gradient_loss(log_probs, weights, torch.ones(2), mask)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(log_probs.grad, torch.zeros(2, 3))


def test_terms_raise_right_and_lower_wrong():
    log_probs = torch.full((2, 1), -1.0, requires_grad=True)
    terms = policy_gradient_terms(log_probs, torch.tensor([0.5, 0.5]), torch.tensor([1.0, -1.0]))
    terms.sum().backward()
    # A gradient step goes against the gradient: up for the right one, down for the wrong one.
    assert log_probs.grad.flatten().tolist() == [-0.5, 0.5]
