"""Gradient norms of right and of wrong trajectories apart, against gradients of transformers by hand."""

from __future__ import annotations

import pytest
import torch
from verl.utils import tensordict_utils as tu

from fpa_verl.runs.metrics import SIDES, dynamics_metric
from tests.integration.stepping import batch, column_batch, drift, update, worker

pytestmark = pytest.mark.usefixtures("one_process")


def measured(actor, data) -> dict[str, float]:
    norms = tu.get(actor.gradient_norms(data), "metrics")
    return {side: norms[dynamics_metric(side, "gradient_norm")] for side in SIDES}


def in_transformers(base_model, actor=None):
    """The base model, or a worker's policy."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32).eval()
    if actor:
        model.load_state_dict({k: v.full_tensor() for k, v in actor.actor.engine.module.state_dict().items()})
    return model


def log_probs(model, row) -> torch.Tensor:
    """(|y|,) of the response's tokens."""
    labels = torch.tensor(row["response_ids"])
    ids = torch.tensor([row["prompt_ids"] + row["response_ids"]])
    logits = model(input_ids=ids).logits[0, len(row["prompt_ids"]) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0]


def norm_of(loss, model) -> float:
    gradients = torch.autograd.grad(loss, tuple(model.parameters()))
    return torch.stack([gradient.norm() for gradient in gradients]).norm().item()


def test_of_off_rl_they_are_those_of_its_terms(base_model, chained_additions):
    """Of B trajectories a side's gradient is (1/B) sum of -R w (1/|y|) grad log pi over its own."""
    actor = worker(base_model, "off_rl")
    drift(actor)
    rows, data = batch(chained_additions)
    found = measured(actor, data)
    policy = in_transformers(base_model, actor)
    for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
        mine = [row for row in rows if (row["status"] == "right") == (sign > 0)]
        means = torch.stack([log_probs(policy, row).mean() for row in mine])
        loss = (-sign * means.detach().exp() * means).sum() / len(rows)
        assert found[side] == pytest.approx(norm_of(loss, policy), rel=1e-4)


@pytest.mark.patient
def test_of_pairs_they_are_those_that_flow_through_each_member(base_model, chained_additions):
    """DPO's gradient through y_w is -(beta / n) sigmoid(-beta margin) grad log pi(y_w) for n pairs."""
    actor = worker(base_model, "dpo")
    drift(actor)
    rows, data = batch(chained_additions, "pair")
    found = measured(actor, data)
    beta = actor._policy_loss.objective.beta
    policy, reference = in_transformers(base_model, actor), in_transformers(base_model)
    ratios = [log_probs(policy, row).sum() - log_probs(reference, row).sum().detach() for row in rows]
    # The chosen one of a pair comes first.
    chosen, rejected = ratios[::2], ratios[1::2]
    strength = [
        torch.sigmoid(-beta * (w - r)).detach() * beta / len(chosen) for w, r in zip(chosen, rejected, strict=True)
    ]
    for side, members, sign in zip(SIDES, (chosen, rejected), (-1.0, 1.0), strict=True):
        loss = sum(sign * one * ratio for one, ratio in zip(strength, members, strict=True))
        assert found[side] == pytest.approx(norm_of(loss, policy), rel=1e-4)


@pytest.mark.patient
@pytest.mark.parametrize("recipe", ["fpa_offline", "kto"])
def test_measuring_changes_nothing_of_the_update(base_model, chained_additions, recipe):
    results = []
    for measures in (False, True):
        actor = worker(base_model, recipe)
        drift(actor)
        data = batch(chained_additions)[1]
        if measures:
            assert all(norm > 0 for norm in measured(actor, data).values())
        results.append((update(actor, data), update(actor, batch(chained_additions)[1])))
    assert results[0][0].keys() == results[1][0].keys()
    for before, after in zip(*results, strict=True):
        for name in ("loss", "grad_norm", "right/log_prob", "wrong/log_prob"):
            assert before[name] == after[name], name


def test_measuring_takes_nothing_of_what_training_draws(base_model, step_pairs):
    """The dropout of svpo's value head."""
    results = []
    for measures in (False, True):
        actor = worker(base_model, "svpo")
        torch.manual_seed(0)
        if measures:
            measured(actor, batch(step_pairs, "pair")[1])
        results.append(update(actor, batch(step_pairs, "pair")[1]))
    assert results[0]["value_regression"] == results[1]["value_regression"]


def test_where_all_are_right_they_are_the_whole_gradient_and_none(base_model, chained_additions):
    actor = worker(base_model, "fpa_offline")
    drift(actor)
    rows, _ = batch(chained_additions)
    right = [row for row in rows if row["status"] == "right"]
    found = measured(actor, column_batch(right))
    assert found["wrong"] == 0.0
    assert found["right"] == pytest.approx(update(actor, column_batch(right))["grad_norm"], rel=1e-6)
