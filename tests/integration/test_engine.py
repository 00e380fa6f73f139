"""verl's own FSDP2 engine and worker in this process, without Ray: what a step computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo import core_algos
from verl.utils import tensordict_utils as tu

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.actor import OfflineActorWorker
from fpa_verl.integration.loss import NotFiniteError
from fpa_verl.integration.static_rollouts import _trajectory_fields
from fpa_verl.objectives import future_log_probs, policy_gradient_loss, trajectory_weights
from fpa_verl.rollouts import RolloutDataset
from tests.integration.conftest import DEMO, composed

B = 8


@pytest.fixture(scope="module", autouse=True)
def one_process(tmp_path_factory):
    """What Ray would have set for the only worker."""
    meeting_point = tmp_path_factory.mktemp("distributed") / "file"
    with pytest.MonkeyPatch.context() as patch:
        ranks = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
        for name, value in {**ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
            patch.setenv(name, value)
        patch.setenv("DIST_INIT_METHOD", f"file://{meeting_point}")
        yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def worker(base_model, recipe: str, *overrides: str) -> OfflineActorWorker:
    config = composed(
        recipe,
        *DEMO,
        f"actor_rollout_ref.model.path={base_model}",
        "actor_rollout_ref.actor.optim.total_training_steps=10",
        *overrides,
    )
    OmegaConf.set_struct(config, False)
    OmegaConf.resolve(config)
    actor = OfflineActorWorker(config=config.actor_rollout_ref, role="actor")
    actor.init_model()
    return actor


def batch(dataset):
    rollouts = RolloutDataset(dataset)
    rows = [rollouts.rows(i)[0] for i in range(B)]
    fields = [_trajectory_fields(row) for row in rows]
    for row, field in zip(rows, fields, strict=True):
        field["advantages"] = torch.full((len(row["response_ids"]),), 1.0 if row["status"] == "right" else -1.0)
    data = tu.get_tensordict(
        {name: column([field[name] for field in fields]) for name in fields[0] if name not in ("num_turns",)}
    )
    tu.assign_non_tensor(
        data,
        mini_batch_size=B,
        global_batch_size=B,
        epochs=1,
        seed=0,
        dataloader_kwargs={"shuffle": False},
        calculate_entropy=False,
        temperature=0.7,
    )
    return rows, data


def column(values):
    """As TransferQueue hands it to a worker: tensors of a jagged batch, other values as an array."""
    if isinstance(values[0], torch.Tensor):
        return torch.nested.as_nested_tensor(values, layout=torch.jagged)
    return np.array(values, dtype=object)


def update(actor, dataset) -> dict[str, float]:
    metrics = tu.get(actor.update_actor(batch(dataset)[1]), "metrics")
    return {
        name: float(value.aggregate() if hasattr(value, "aggregate") else value[0]) for name, value in metrics.items()
    }


def drift(actor) -> None:
    """Move the policy away from the reference, the same way every time."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in actor.actor.engine.module.parameters():
            local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
            local.add_(torch.randn(local.shape, generator=generator) * 0.05)


def logits_of(model, row) -> torch.Tensor:
    """(|y|, V) logits at the positions that predict the response, from transformers alone."""
    ids = torch.tensor([row["prompt_ids"] + row["response_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    return logits[len(row["prompt_ids"]) - 1 : -1]


def test_a_step_is_the_papers_loss_on_the_papers_future_policy(base_model, chained_additions):
    """Engine, unpadding, labels, reference and weights against transformers and float64 by hand."""
    from transformers import AutoModelForCausalLM

    lam = 2.0
    actor = worker(base_model, "fpa_offline")
    drift(actor)
    reference = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32).eval()
    policy = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32).eval()
    policy.load_state_dict({k: v.full_tensor() for k, v in actor.actor.engine.module.state_dict().items()})
    rows, _ = batch(chained_additions)
    losses = []
    for row in rows:
        labels = torch.tensor(row["response_ids"])
        h, h_ref = logits_of(policy, row).double(), logits_of(reference, row).double()
        log_probs = h.log_softmax(-1).gather(-1, labels[:, None]).T
        mask = torch.ones_like(log_probs, dtype=torch.bool)
        weights = trajectory_weights(future_log_probs(h, h_ref, labels, lam)[None], mask)
        sign = torch.tensor([1.0 if row["status"] == "right" else -1.0], dtype=torch.float64)
        losses.append(policy_gradient_loss(log_probs, weights, sign, mask))
    expected = torch.stack(losses).mean().item()
    assert update(actor, chained_additions)["loss"] == pytest.approx(expected, abs=2e-6)


def test_lambda_zero_is_off_rl_value_and_gradient(base_model, chained_additions):
    results = []
    for recipe, overrides in (("off_rl", ()), ("fpa_offline", ("actor_rollout_ref.actor.policy_loss.lam=0",))):
        actor = worker(base_model, recipe, *overrides)
        drift(actor)
        results.append(update(actor, chained_additions))
    for name in ("loss", "grad_norm", "wrong/weight"):
        assert results[0][name] == pytest.approx(results[1][name], rel=1e-6), name


def test_policy_at_the_reference_makes_fpa_off_rl(base_model, chained_additions):
    off_rl, fpa = (update(worker(base_model, recipe), chained_additions) for recipe in ("off_rl", "fpa_offline"))
    for name in ("loss", "grad_norm"):
        assert fpa[name] == pytest.approx(off_rl[name], rel=1e-5), name


def test_away_from_the_reference_fpa_is_not_off_rl(base_model, chained_additions):
    weights = []
    for recipe in ("off_rl", "fpa_offline"):
        actor = worker(base_model, recipe)
        drift(actor)
        weights.append(update(actor, chained_additions)["wrong/weight"])
    assert abs(weights[0] - weights[1]) > 1e-3 * abs(weights[0])


@pytest.mark.parametrize("max_tokens", [64, 150])
def test_micro_batches_change_nothing(base_model, chained_additions, max_tokens):
    results = []
    for limit in (16384, max_tokens):
        actor = worker(base_model, "fpa_offline", f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={limit}")
        drift(actor)
        results.append(update(actor, chained_additions))
    for name in ("loss", "grad_norm", "right/weight"):
        assert results[1][name] == pytest.approx(results[0][name], rel=1e-5), name


def test_a_loss_that_is_not_finite_names_its_trajectories(base_model, chained_additions):
    actor = worker(base_model, "off_rl")
    with torch.no_grad():
        for parameter in actor.actor.engine.module.parameters():
            parameter.to_local().fill_(torch.nan)
    with pytest.raises(NotFiniteError, match="p0/0/0"):
        update(actor, chained_additions)


def test_a_worker_without_the_plugin_says_so(base_model, monkeypatch):
    monkeypatch.delitem(core_algos.POLICY_LOSS_REGISTRY, "fpa")
    with pytest.raises(IntegrationError, match="the plugin is not loaded in the worker on"):
        worker(base_model, "fpa_offline")
