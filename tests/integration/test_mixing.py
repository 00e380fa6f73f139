"""BVPO in verl's own engine: the gradient of the mix, and the moments from which its weight is estimated."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM
from verl.utils import tensordict_utils as tu

from fpa_verl.integration.config.mixing import Probe
from fpa_verl.integration.trainers.mixing import MixingWeight
from fpa_verl.integration.workers import gradients
from fpa_verl.integration.workers.mixing import MIXING_WEIGHT, PROBE
from fpa_verl.objectives.mixing import estimate
from fpa_verl.objectives.score_projections import Directions
from fpa_verl.rollouts import RolloutDataset, Selection
from tests.integration.stepping import batch, column_batch, drift, update, worker

pytestmark = pytest.mark.usefixtures("one_process")
LOSS = "actor_rollout_ref.actor.policy_loss"


def bvpo(base_model, *overrides):
    actor = worker(base_model, "bvpo", *overrides)
    drift(actor)
    return actor


def gradient(actor, data, monkeypatch) -> torch.Tensor:
    """Of all weights, by the way that gradient norms go."""
    found = []

    def kept(module) -> float:
        found.append(torch.cat([p.grad.full_tensor().double().flatten() for p in module.parameters()]))
        return 0.0

    monkeypatch.setattr(gradients, "_norm", kept)
    actor.gradient_norms(data)
    # Of right and of wrong trajectories, which add up.
    return sum(found[1:], found[0])


@pytest.mark.patient
@pytest.mark.parametrize("pairwise", ["dpo", "rpo", "simper_fpa"])
def test_the_gradient_of_the_mix_is_the_mix_of_the_gradients(base_model, of_both_modes, monkeypatch, pairwise):
    weights = (0.3, 1.0, 0.0)
    mix, traces, empty = (
        gradient(
            bvpo(base_model, f"{LOSS}.alpha={alpha}", f"{LOSS}.pairwise={pairwise}"),
            batch(of_both_modes, "pair_of_each_mode")[1],
            monkeypatch,
        )
        for alpha in weights
    )
    assert (traces - empty).norm() > 0.1 * traces.norm()
    # float32, whose sums come in another order.
    torch.testing.assert_close(mix, 0.3 * traces + 0.7 * empty, rtol=1e-4, atol=1e-6 * float(traces.norm()))


@pytest.mark.patient
def test_all_of_one_mode_is_dpo_on_that_mode_alone(base_model, of_both_modes):
    for alpha, columns in ((1.0, (0, 1)), (0.0, (2, 3))):
        rows, data = batch(of_both_modes, "pair_of_each_mode")
        mixed = update(bvpo(base_model, f"{LOSS}.alpha={alpha}"), data)
        pairs = [{**row, "role": ("chosen", "rejected")[i % 2]} for i, row in enumerate(rows) if i % 4 in columns]
        dpo = worker(base_model, "dpo")
        drift(dpo)
        alone = update(dpo, column_batch(pairs))
        for name in ("loss", "grad_norm"):
            assert mixed[name] == pytest.approx(alone[name], rel=1e-5), name


def test_an_estimated_weight_comes_with_the_batch(base_model, of_both_modes):
    known = update(bvpo(base_model, f"{LOSS}.alpha=0.3"), batch(of_both_modes, "pair_of_each_mode")[1])
    with pytest.raises(ValueError, match="bvpo got no weight of the gradient of traces"):
        update(bvpo(base_model, f"{LOSS}.alpha=auto", "mixing.every=5"), batch(of_both_modes, "pair_of_each_mode")[1])
    _, data = batch(of_both_modes, "pair_of_each_mode")
    tu.assign_non_tensor(data, **{MIXING_WEIGHT: 0.3})
    auto = update(bvpo(base_model, f"{LOSS}.alpha=auto", "mixing.every=5"), data)
    assert auto["loss"] == pytest.approx(known["loss"], rel=1e-6)


# ---- moments ------------------------------------------------------------------------------------------

TRACES, PROJECTIONS, BETA = 2, 16, 0.1


def probe(dataset) -> Probe:
    thinking = RolloutDataset(dataset, Selection(unit="traces", traces=TRACES, pairs_per_group=1)).items
    empty = RolloutDataset(dataset, Selection(unit="pair", mode="empty", pairs_per_group=1)).items
    return Probe(tuple(thinking)[:9], tuple(empty)[:9], BETA, PROJECTIONS, pairs=32, bounds=(0.0, 1.0))


def by_autograd(actor, base_model, rows, directions) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Of each row log pi/ref and the gradient of log pi by the head, projected; from transformers alone."""
    policy, reference = (AutoModelForCausalLM.from_pretrained(base_model).eval() for _ in range(2))
    policy.load_state_dict({k: v.full_tensor() for k, v in actor.actor.engine.module.state_dict().items()})
    found = {}
    for row in rows:
        ids, first = torch.tensor([row["prompt_ids"] + row["response_ids"]]), len(row["prompt_ids"]) - 1
        labels = torch.tensor(row["response_ids"])[:, None]
        head = policy.get_output_embeddings().weight.detach().clone().requires_grad_()
        with torch.no_grad():
            states = policy.model(ids).last_hidden_state[0, first:-1]
            of_reference = reference(ids).logits[0, first:-1].log_softmax(-1).gather(1, labels).sum()
        log_prob = (states @ head.T).log_softmax(-1).gather(1, labels).sum()
        (score,) = torch.autograd.grad(log_prob, head)
        seen = torch.einsum("vm,vd,dm->m", directions.outputs, score, directions.inputs)
        found[row["row"]] = (log_prob.detach() - of_reference).double(), seen.double()
    return found


def gradient_of(chosen, rejected) -> torch.Tensor:
    """Of DPO with K traces of either answer, by hand: autograd over log-ratios, and the score of each trace."""
    ratios = [torch.stack([ratio for ratio, _ in side]).requires_grad_() for side in (chosen, rejected)]
    mean = [torch.logsumexp(one, 0) - math.log(len(one)) for one in ratios]
    slopes = torch.autograd.grad(-logsigmoid(BETA * (mean[0] - mean[1])), ratios)
    scores = (score for side in (chosen, rejected) for _, score in side)
    return sum(slope * score for slope, score in zip(torch.cat(slopes), scores, strict=True))


def corrected(chosen, rejected) -> torch.Tensor:
    """Twice the gradient with all traces, less the mean of those with either half."""
    half = TRACES // 2
    halves = gradient_of(chosen[:half], rejected[:half]) + gradient_of(chosen[half:], rejected[half:])
    return 2 * gradient_of(chosen, rejected) - halves / 2


def test_moments_are_those_of_the_gradients_by_hand(base_model, of_both_modes):
    looked_at, dataset = probe(of_both_modes), RolloutDataset(of_both_modes)
    rows = [dataset.row(row) for row in looked_at.rows]
    actor = bvpo(base_model)
    data = column_batch(rows)
    tu.assign_non_tensor(data, **{PROBE: looked_at})
    found = {name: float(value) for name, value in tu.get(actor.mixing_moments(data), "metrics").items()}

    config = actor.actor.engine.module.config
    directions = Directions.drawn(config.vocab_size, config.hidden_size, PROJECTIONS)
    by_row = by_autograd(actor, base_model, rows, directions)
    of = [[[by_row[row] for row in side] for side in (one[:TRACES], one[TRACES:])] for one in looked_at.thinking]
    expected = estimate(
        trace=torch.stack([gradient_of(chosen[:1], rejected[:1]) for chosen, rejected in of]),
        empty=torch.stack([gradient_of([by_row[a]], [by_row[b]]) for a, b in looked_at.empty]),
        marginal=torch.stack([corrected(chosen, rejected) for chosen, rejected in of]),
    ).moments.at(32)
    for name in ("trace_variance", "empty_variance", "trace_bias", "empty_bias", "cross_bias"):
        size = max(abs(expected.trace_variance), abs(expected.empty_bias))
        assert found[f"mixing/{name}"] == pytest.approx(getattr(expected, name), rel=1e-3, abs=1e-4 * size), name
    assert found["mixing/alpha"] == pytest.approx(expected.alpha(), abs=1e-3)
    assert found["mixing/error"] <= min(found["mixing/trace_error"], found["mixing/empty_error"]) + 1e-12


@pytest.mark.parametrize(
    ("known", "due"),
    [
        ([], range(1, 23)),
        ([1], [1, *range(11, 23)]),
        ([1, 11], [1, 11, 21, 22]),
        # That of step 11 was lost with the run that made it, and was made again behind the checkpoint.
        ([1, 13], [1, 11, 12, 13, 21, 22]),
    ],
)
def test_an_estimate_that_a_kill_cost_is_made_anew(known, due):
    weight = object.__new__(MixingWeight)
    weight._settings, weight.is_estimated, weight._known = SimpleNamespace(every=10), True, dict.fromkeys(known, 0.5)
    assert [step for step in range(1, 23) if weight.is_due(step)] == list(due)
