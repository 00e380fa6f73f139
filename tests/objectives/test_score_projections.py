"""Projected gradients of a last layer against autograd's, of single trajectories and of losses of pairs."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from fpa_verl.objectives import SelectedRows
from fpa_verl.objectives.score_projections import (
    Directions,
    dpo_gradients,
    k_trace_gradients,
    marginal_gradients,
    projected_scores,
)

V, D, M, T = 23, 7, 11, 0.7
LENGTHS = [4, 2, 5]


@pytest.fixture
def layer():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64, requires_grad=True)
    hidden = torch.randn(M, D, generator=generator, dtype=torch.float64)
    labels = torch.randint(V, (M,), generator=generator)
    return weight, hidden, labels


def log_probs(layer) -> torch.Tensor:
    """Of each trajectory, (B,), with gradient to the weight."""
    weight, hidden, labels = layer
    of_token = torch.log_softmax(hidden @ weight.T / T, -1).gather(1, labels[:, None])[:, 0]
    return torch.stack([part.sum() for part in of_token.split(LENGTHS)])


def seen(gradient: torch.Tensor, directions: Directions) -> torch.Tensor:
    """u^T G v in every direction."""
    return torch.einsum("vm,vd,dm->m", directions.outputs.double(), gradient, directions.inputs.double())


def scores_of(layer, directions, logits=None) -> torch.Tensor:
    weight, hidden, labels = layer
    logits = (hidden @ weight.T / T).detach() if logits is None else logits
    return projected_scores(logits, hidden, labels, LENGTHS, directions, T)


def test_a_score_is_the_gradient_of_a_trajectory_s_log_prob(layer):
    directions = Directions.drawn(V, D, 9)
    found = scores_of(layer, directions)
    for place, log_prob in enumerate(log_probs(layer)):
        (gradient,) = torch.autograd.grad(log_prob, layer[0], retain_graph=True)
        torch.testing.assert_close(found[place], seen(gradient, directions), rtol=1e-10, atol=1e-10)


def test_rows_of_a_larger_batch_and_of_lower_precision(layer):
    directions, (weight, hidden, _) = Directions.drawn(V, D, 9), layer
    whole = torch.cat([torch.randn(3, V), (hidden @ weight.T / T).detach().float()])
    rows = SelectedRows(whole, torch.arange(3, 3 + M))
    close = scores_of(layer, directions, rows)
    torch.testing.assert_close(close.double(), scores_of(layer, directions), rtol=1e-4, atol=1e-4)


def test_directions_keep_inner_products_on_average(layer):
    gradients = [torch.autograd.grad(one, layer[0], retain_graph=True)[0].flatten() for one in log_probs(layer)]
    exact = torch.stack([torch.stack([a @ b for a in gradients]) for b in gradients])
    many = [scores_of(layer, Directions.drawn(V, D, 512, seed)) for seed in range(60)]
    products = torch.stack([one @ one.T for one in many])
    error = products.std(0) / math.sqrt(len(many))
    assert ((products.mean(0) - exact).abs() < 4 * error).all()
    # Of one draw: that is what an estimate while a run trains has.
    assert (products[0] - exact).abs().max() < 0.35 * exact.abs().max()


def test_the_same_directions_everywhere():
    one, other = Directions.drawn(V, D, 5), Directions.drawn(V, D, 5)
    assert torch.equal(one.outputs, other.outputs)
    assert torch.equal(one.inputs, other.inputs)


BETA = 0.3


def test_gradients_of_pairs(layer):
    """The three trajectories as two pairs: (0, 1) and (2, 1)."""
    directions, pairs = Directions.drawn(V, D, 9), torch.tensor([[0, 1], [2, 1]])
    reference = torch.tensor([-9.0, -7.0, -20.0], dtype=torch.float64)
    ratios = log_probs(layer) - reference
    found = dpo_gradients(ratios.detach()[pairs], scores_of(layer, directions)[pairs], BETA)
    for place, (chosen, rejected) in enumerate(pairs):
        loss = -logsigmoid(BETA * (ratios[chosen] - ratios[rejected]))
        (gradient,) = torch.autograd.grad(loss, layer[0], retain_graph=True)
        torch.testing.assert_close(found[place], seen(gradient, directions), rtol=1e-10, atol=1e-10)


def test_gradients_of_answers_with_several_traces(layer):
    directions, item = Directions.drawn(V, D, 9), torch.tensor([[[0, 1], [2, 1]]])
    reference = torch.tensor([-9.0, -7.0, -20.0], dtype=torch.float64)
    ratios = log_probs(layer) - reference
    found = k_trace_gradients(ratios.detach()[item], scores_of(layer, directions)[item], BETA)
    chosen, rejected = (torch.logsumexp(ratios[rows], 0) - math.log(2) for rows in item[0])
    (gradient,) = torch.autograd.grad(-logsigmoid(BETA * (chosen - rejected)), layer[0])
    torch.testing.assert_close(found[0], seen(gradient, directions), rtol=1e-10, atol=1e-10)
    # Twice that, less the mean of what either half of the traces gives.
    seen_ratios, scores = ratios.detach(), scores_of(layer, directions)
    halves = [k_trace_gradients(seen_ratios[rows], scores[rows], BETA) for rows in item.split(1, 2)]
    corrected = marginal_gradients(seen_ratios[item], scores[item], BETA)
    torch.testing.assert_close(corrected, 2 * found - sum(halves) / 2)
    # Of one trace, the pair's own.
    single = k_trace_gradients(ratios.detach()[item[:, :, :1]], scores_of(layer, directions)[item[:, :, :1]], BETA)
    pair = dpo_gradients(ratios.detach()[item[:, :, 0]], scores_of(layer, directions)[item[:, :, 0]], BETA)
    torch.testing.assert_close(single, pair)
