"""The value head in verl's own FSDP2 engine: what a step computes, how it is divided, kept and gone on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from fpa_verl.errors import ConfigError
from fpa_verl.integration.workers.value_head import NAME, FSDPEngineWithValueHead, first_head, whole_head
from fpa_verl.objectives import Trajectories
from fpa_verl.objectives.step_ends import StepEnds
from fpa_verl.objectives.step_values import StepValuePreference
from fpa_verl.objectives.value_head import FILE, ValueHead
from fpa_verl.roles import PAIR
from tests.integration.stepping import batch, drift, update, worker
from tests.integration.valued_steps import LEARNING, WITHOUT_DROPOUT

pytestmark = pytest.mark.usefixtures("one_process")

LOSS = "actor_rollout_ref.actor.policy_loss"
ACTOR = "actor_rollout_ref.actor"
OTHERS = (f"{LOSS}.sft_weight=0.7", f"{LOSS}.mse_weight=0.6", f"{LOSS}.rank_weight=0.8", f"{LOSS}.margin=0.9")
TERMS = ("preference", "likelihood", "value_regression", "value_ranking", "value_error", "values_in_order")


def valued(base_model, *overrides: str):
    return worker(base_model, "svpo", WITHOUT_DROPOUT, *overrides)


def weights_of(actor) -> dict[str, torch.Tensor]:
    """Of trunk and head."""
    return {name: weight.full_tensor().clone() for name, weight in actor.actor.engine.module.state_dict().items()}


def head_weights(actor) -> dict[str, torch.Tensor]:
    return dict(whole_head(actor.actor.engine).state_dict())


def by_hand(actor, base_model, rows) -> tuple[Trajectories, StepEnds]:
    """A row at a time in transformers, float64 from the last hidden states on."""
    policy, reference = (AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32).eval() for _ in range(2))
    policy.load_state_dict({k: v for k, v in weights_of(actor).items() if not k.startswith(NAME)})
    head = whole_head(actor.actor.engine).double().eval()
    width = max(len(row["prompt_ids"]) + len(row["response_ids"]) for row in rows)
    found = {name: torch.zeros(len(rows), width, dtype=torch.float64) for name in ("policy", "reference", "values")}
    targets, mask = torch.zeros(len(rows), width, dtype=torch.float64), torch.zeros(len(rows), width).bool()
    scored = mask.clone()
    for place, row in enumerate(rows):
        ids = torch.tensor([row["prompt_ids"] + row["response_ids"]])
        with torch.no_grad():
            for name, model in (("policy", policy), ("reference", reference)):
                log_probs = model(ids).logits[0].double().log_softmax(-1)
                found[name][place, 1 : ids.shape[1]] = log_probs[:-1].gather(-1, ids[0, 1:, None])[:, 0]
            hidden = policy.model(ids).last_hidden_state[0].double()
            found["values"][place, : ids.shape[1]] = head(hidden)
        scored[place, len(row["prompt_ids"]) : ids.shape[1]] = True
        mask[place, row["step_ends"]] = True
        targets[place, row["step_ends"]] = torch.tensor(row["step_values"], dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(len(rows) // 2)
    batch = Trajectories(found["policy"], scored, signs, found["reference"], roles=PAIR * (len(rows) // 2))
    return batch, StepEnds(found["values"], targets, mask)


@pytest.mark.parametrize("rank", ["hinge", "logistic"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_step_is_the_loss_by_hand(base_model, step_pairs, rank, packed):
    """Places of step ends, V, the pairs, all terms and what is logged of them, in float64 by hand."""
    actor = valued(base_model, *OTHERS, f"{LOSS}.rank={rank}", f"actor_rollout_ref.model.use_remove_padding={packed}")
    drift(actor)
    rows, data = batch(step_pairs, "pair")
    # Rows of one step end and of two.
    assert {len(row["step_ends"]) for row in rows} == {1, 2}
    batch_by_hand, ends = by_hand(actor, base_model, rows)
    objective = actor._policy_loss.objective
    assert objective == StepValuePreference(
        sft_weight=0.7, mse_weight=0.6, rank_weight=0.8, rank=rank, margin=0.9, dropout=0
    )
    whole = replace(batch_by_hand, step_ends=ends)
    found, expected = update(actor, data), objective.metrics(whole)
    assert found["loss"] == pytest.approx(objective(whole).mean().item(), rel=2e-5)
    for name in TERMS:
        assert found[name] == pytest.approx(expected[name].mean().item(), rel=2e-5), name
    # By hand and not by the objective: mean |V - Q| over all step ends, and the share of pairs in order.
    off = (ends.values - ends.targets)[ends.mask].abs().mean().item()
    own = ends.values[torch.arange(len(rows)), [row["step_ends"][-1] for row in rows]]
    assert found["value_error"] == pytest.approx(off, rel=2e-5)
    assert found["values_in_order"] == (own[::2] > own[1::2]).double().mean().item()


def test_micro_batches_give_the_same_step(base_model, step_pairs):
    """Two steps, whose pairs have two, three and four step ends, in one micro-batch or a pair each."""
    found = []
    for limit in (4096, 96):
        actor = valued(base_model, *OTHERS, LEARNING, f"{ACTOR}.ppo_max_token_len_per_gpu={limit}")
        steps = [update(actor, batch(step_pairs, "pair")[1]) for _ in range(2)]
        found.append((steps, weights_of(actor)))
    (whole, weights), (split, others) = found
    for one, other in zip(whole, split, strict=True):
        for name in ("loss", "grad_norm", *TERMS):
            assert other[name] == pytest.approx(one[name], rel=2e-5), name
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, rtol=1e-4, atol=1e-5)


def test_values_train_the_trunk_and_the_head(base_model, step_pairs):
    """With the terms of V all but alone their error falls, and both move."""
    actor = valued(base_model, f"{LOSS}.beta=1e-6", f"{LOSS}.sft_weight=0", f"{LOSS}.mse_weight=1", LEARNING)
    before = weights_of(actor)
    steps = [update(actor, batch(step_pairs, "pair")[1]) for _ in range(20)]
    assert steps[-1]["value_error"] < 0.7 * steps[0]["value_error"]
    moved = {name: not torch.equal(before[name], weight) for name, weight in weights_of(actor).items()}
    assert moved[f"{NAME}.linear.weight"]
    assert moved[f"{NAME}.linear.bias"]
    assert moved["model.layers.0.mlp.up_proj.weight"]


def rates(actor) -> list[float]:
    return [group["lr"] for group in actor.actor.engine.optimizer.param_groups]


@pytest.mark.parametrize(("given", "rate"), [("null", 0.1 / 64), ("2e-3", 2e-3)])
def test_the_head_has_a_learning_rate_of_its_own(base_model, given, rate):
    """Of all weights of the trunk one, of the head another, which is by the hidden size where none is given."""
    actor = valued(base_model, f"{LOSS}.value_lr={given}", LEARNING)
    assert rates(actor) == [pytest.approx(1e-3), pytest.approx(rate)]
    trunk, head = (len(group["params"]) for group in actor.actor.engine.optimizer.param_groups)
    assert (trunk + head, head) == (len(list(actor.actor.engine.module.parameters())), 2)


def test_a_stage_trains_the_head_alone(base_model, step_pairs):
    """With a rate of 0 for the trunk, which then is as it was to the bit."""
    actor = valued(base_model, f"{LOSS}.mse_weight=1", f"{ACTOR}.optim.lr=0", f"{LOSS}.value_lr=1e-2")
    before = weights_of(actor)
    steps = [update(actor, batch(step_pairs, "pair")[1]) for _ in range(20)]
    assert steps[-1]["value_error"] < 0.9 * steps[0]["value_error"]
    moved = {name for name, weight in weights_of(actor).items() if not torch.equal(before[name], weight)}
    assert moved == {f"{NAME}.linear.weight", f"{NAME}.linear.bias"}


def test_recomputed_layers_change_nothing(base_model, step_pairs):
    key = "actor_rollout_ref.model.enable_gradient_checkpointing"
    one, other = (
        update(valued(base_model, *OTHERS, f"{key}={on}"), batch(step_pairs, "pair")[1]) for on in ("true", "false")
    )
    for name in ("loss", "grad_norm"):
        assert one[name] == pytest.approx(other[name], rel=1e-6), name


def test_gradient_norms_of_both_sides_go_through_values_as_well(base_model, step_pairs):
    actor = valued(base_model, f"{LOSS}.beta=1e-6", f"{LOSS}.sft_weight=0", f"{LOSS}.rank_weight=0")
    norms = actor.gradient_norms(batch(step_pairs, "pair")[1])["metrics"]
    for side in ("right", "wrong"):
        assert norms[f"dynamics/{side}/gradient_norm"] > 1e-2


# ---- where it begins ----------------------------------------------------------------------------


def test_the_seed_alone_draws_the_head(base_model):
    config = AutoModelForCausalLM.from_pretrained(base_model).config
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = first_head(config, base_model, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(6)
    same, other = (first_head(config, base_model, seed=seed) for seed in (1, 2))
    assert torch.equal(one.linear.weight, same.linear.weight)
    assert not torch.equal(one.linear.weight, other.linear.weight)


def test_the_worker_begins_with_the_head_of_its_seed(base_model):
    actor = valued(base_model, "data.seed=7")
    expected = first_head(actor.actor.engine.module.config, base_model, seed=7)
    assert torch.equal(head_weights(actor)["linear.weight"], expected.linear.weight)
    assert actor.actor.engine.module.value_head.dropout.p == 0


def test_a_head_of_another_model_is_refused(base_model, tmp_path):
    ValueHead(3).save(tmp_path)
    with pytest.raises(ConfigError, match=f"{FILE} is of a model of hidden size 3, and the one beside it has 64"):
        first_head(AutoModelForCausalLM.from_pretrained(base_model).config, tmp_path, seed=0)


# ---- what is kept of it -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(base_model, step_pairs, tmp_path_factory):
    """A worker after a step, and the folder of what it exported."""
    actor = valued(base_model, LEARNING)
    update(actor, batch(step_pairs, "pair")[1])
    folder = tmp_path_factory.mktemp("exported") / "best"
    actor.export_hugging_face(str(folder), {"step": 1})
    return actor, folder


def test_the_rollout_engine_is_given_the_model_alone(trained, base_model):
    engine = trained[0].actor.engine
    names = set(AutoModelForCausalLM.from_pretrained(base_model).state_dict())
    for given in (engine.get_per_tensor_param()[0], engine.get_per_tensor_param_shard()[0]):
        assert {name for name, *_ in given} == names


def test_an_export_is_a_plain_model_and_the_head_beside_it(trained):
    actor, folder = trained
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    weights = weights_of(actor)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=0)
    loaded = ValueHead.load(folder)
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, weights[f"{NAME}.{name}"])
    # Not that of the beginning.
    begun = first_head(model.config, Path("nowhere"), seed=42)
    assert not torch.equal(loaded.linear.weight, begun.linear.weight)


def test_an_export_draws_nothing_from_the_generator_of_dropout(trained, tmp_path):
    state = torch.get_rng_state()
    trained[0].export_hugging_face(str(tmp_path / "again"), {"step": 1})
    assert torch.equal(state, torch.get_rng_state())


def test_vllm_reads_the_model_s_weights_alone(trained):
    """It reads every file of weights that lies beside the configuration, by whatever name."""
    folder = trained[1]
    assert [file.name for file in folder.glob("*.safetensors")] == ["model.safetensors"]
    assert (folder / FILE).is_file()


def test_a_run_that_begins_with_an_export_goes_on_with_its_head(trained):
    actor, folder = trained
    again = worker(folder, "svpo")
    for name, weight in head_weights(actor).items():
        assert torch.equal(head_weights(again)[name], weight)
    # How much is dropped is the run's to say, and not the head's.
    assert again.actor.engine.module.value_head.dropout.p == 0.1


def test_from_a_checkpoint_the_next_steps_are_the_same_to_the_bit(base_model, step_pairs, tmp_path):
    """With dropout, whose generator goes on where it was."""
    saved = worker(base_model, "svpo", LEARNING)
    update(saved, batch(step_pairs, "pair")[1])
    saved.save_checkpoint(str(tmp_path / "actor"))
    expected = [update(saved, batch(step_pairs, "pair")[1]) for _ in range(2)]
    resumed = worker(base_model, "svpo", LEARNING, "data.seed=3")
    resumed.load_checkpoint(str(tmp_path / "actor"))
    found = [update(resumed, batch(step_pairs, "pair")[1]) for _ in range(2)]
    for mine, wanted in zip(found, expected, strict=True):
        for name in ("loss", "grad_norm", *TERMS):
            assert mine[name] == wanted[name], name
    weights = weights_of(saved)
    assert all(torch.equal(weight, weights[name]) for name, weight in weights_of(resumed).items())


def test_a_run_without_the_objective_has_no_head(base_model, step_pairs, tmp_path):
    actor = worker(base_model, "dpo")
    assert type(actor.actor.engine) is FSDPEngineWithLMHead
    assert not hasattr(actor.actor.engine.module, NAME)
    update(actor, batch(step_pairs, "pair")[1])
    actor.export_hugging_face(str(tmp_path / "best"), {"step": 1})
    assert not (tmp_path / "best" / FILE).exists()


def test_the_reference_has_no_head(base_model):
    actor = valued(base_model)
    assert type(actor.actor.engine) is FSDPEngineWithValueHead
    assert not hasattr(actor.ref.engine.module, NAME)


# ---- several processes ----------------------------------------------------------------------------


@pytest.mark.patient
def test_two_processes_take_the_steps_of_one(base_model, step_pairs, tmp_path):
    """Two steps of four pairs, of which each process has two with more or fewer step ends than the other's."""
    alone = valued(base_model, LEARNING)
    expected = [update(alone, batch(step_pairs, "pair")[1]) for _ in range(2)]
    arguments = [str(argument) for argument in (base_model, step_pairs, tmp_path / "both")]
    environment = {**os.environ, "WORLD_SIZE": "2", "DIST_INIT_METHOD": f"file://{tmp_path}/meeting_point"}
    logs = [tmp_path / f"{rank}.log" for rank in range(2)]
    processes = []
    try:
        for rank, log in enumerate(logs):
            with log.open("w") as out:
                command = [sys.executable, "-m", "tests.integration.valued_steps", *arguments]
                own = {**environment, "RANK": str(rank), "LOCAL_RANK": "0"}
                root = Path(__file__).parents[2]
                processes.append(subprocess.Popen(command, cwd=root, env=own, stdout=out, stderr=subprocess.STDOUT))
        statuses = [process.wait(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    texts = [log.read_text() for log in logs]
    assert not any(statuses), "\n".join(text[-3000:] for text in texts)
    for text in texts:
        steps = [json.loads(line) for line in text.splitlines() if line.startswith('{"loss"')]
        for step, wanted in zip(steps, expected, strict=True):
            for name in ("loss", "grad_norm"):
                assert step[name] == pytest.approx(wanted[name], rel=2e-5), name
    weights = weights_of(alone)
    for name, weight in AutoModelForCausalLM.from_pretrained(tmp_path / "both").state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=1e-5)
    for name, weight in ValueHead.load(tmp_path / "both").state_dict().items():
        torch.testing.assert_close(weight, weights[f"{NAME}.{name}"], rtol=1e-4, atol=1e-5)
