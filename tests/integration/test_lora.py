"""LoRA in verl's own FSDP2 worker, without Ray: the reference is the actor's base model, and nothing else holds it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from verl.utils import tensordict_utils as tu

from fpa_verl.errors import ConfigError
from fpa_verl.integration.workers.tokens import NOTE_TOKENS, NoteRequest
from fpa_verl.objectives import future_log_probs
from fpa_verl.runs.tokens import read_token_log_probs
from tests.integration.stepping import batch, cached, drift, from_cache, update, worker
from tests.integration.test_engine import logits_of

pytestmark = pytest.mark.usefixtures("one_process")

LORA = ("actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.model.lora_alpha=16")
UPDATE_TOKENS = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"


def adapted(base_model, recipe="fpa_offline", *overrides, moved=True, seed=0):
    """A worker that trains an adapter, which is moved off zero or not."""
    actor = worker(base_model, recipe, *LORA, f"data.seed={seed}", *overrides)
    if moved:
        drift(actor)
    return actor


def weights_of(actor) -> dict[str, torch.Tensor]:
    """All of the engine's, copied, by peft's names."""
    state = actor.actor.engine.module.state_dict()
    return {name: tensor.full_tensor().clone() for name, tensor in state.items()}


@pytest.mark.patient
def test_the_seed_draws_the_adapter(base_model):
    first, again, other = (weights_of(adapted(base_model, moved=False, seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    differing = {name for name in first if not torch.equal(first[name], other[name])}
    assert differing == {name for name in first if "lora_A" in name}
    assert not any(tensor.any() for name, tensor in first.items() if "lora_B" in name)


def exported(actor, folder):
    actor.export_hugging_face(str(folder), {"step": 1})
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def in_peft(base_model, actor):
    """transformers and peft alone, with the actor's weights."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32), config)
    model.load_state_dict(weights_of(actor))
    return model.eval()


@pytest.fixture(scope="module")
def caches(one_process, base_model, chained_additions, tmp_path_factory):
    """Made by a worker with an adapter that is not the zero it begins with."""
    folder = tmp_path_factory.mktemp("caches")
    tokens = {"hidden": (0, 0), "topk": (4, 16), "chosen": (0, 0)}
    return {
        source: cached(base_model, chained_additions, source, *kept, folder / source, *LORA)
        for source, kept in tokens.items()
    }


@pytest.mark.parametrize("recipe", ["fpa_offline", "off_rl_kl", "kto", "a_star_po", "dro"])
def test_the_first_step_has_the_full_weights_reference_and_loss(base_model, chained_additions, recipe):
    full, lora = worker(base_model, recipe), adapted(base_model, recipe, moved=False)
    assert full.ref is not None
    assert lora.ref is None, "a second copy of the model was loaded"
    full, lora = (update(actor, batch(chained_additions)[1]) for actor in (full, lora))
    assert full.keys() == lora.keys()
    for name in full.keys() & {"loss", "right/future_weight", "wrong/future_weight", "wrong/log_prob", "forward_kl"}:
        assert lora[name] == pytest.approx(full[name], rel=1e-6, abs=1e-7), name
    # B = 0 at first: policy and reference differ in rounding alone.
    assert lora["wrong/log_prob_change"] == pytest.approx(0, abs=2e-5)
    # Other parameters, hence another gradient.
    assert lora["grad_norm"] != pytest.approx(full["grad_norm"], rel=1e-2)


@pytest.mark.parametrize("limit", [16384, 150])
def test_policy_reference_and_future_policy_are_pefts_token_by_token(base_model, chained_additions, tmp_path, limit):
    """In one micro-batch and in several."""
    actor = adapted(base_model, "fpa_offline", f"{UPDATE_TOKENS}={limit}")
    policy, reference = in_peft(base_model, actor), AutoModelForCausalLM.from_pretrained(base_model).eval()
    rows, data = batch(chained_additions)
    update(actor, noting(data, tmp_path))
    noted = read_token_log_probs(tmp_path)
    assert sorted(noted) == [0, 1, 4, 5]
    for row, (one,) in noted.items():
        labels = torch.tensor(rows[row]["response_ids"])
        h, h_ref = (logits_of(model, rows[row]).double() for model in (policy, reference))
        log_p, log_ref = (x.log_softmax(-1).gather(-1, labels[:, None])[:, 0] for x in (h, h_ref))
        assert (log_p - log_ref).abs().max() > 0.1
        # Written with three decimals.
        assert one.policy == pytest.approx(log_p.tolist(), abs=6e-4)
        assert one.reference == pytest.approx(log_ref.tolist(), abs=6e-4)
        assert one.future == pytest.approx(future_log_probs(h, h_ref, labels, 2.0).tolist(), abs=6e-4)


def noting(data, run_dir, step=1):
    tu.assign_non_tensor(data, **{NOTE_TOKENS: NoteRequest(str(run_dir), attempt=1, step=step)})
    return data


def test_steps_move_the_adapter_and_not_the_reference(base_model, chained_additions, tmp_path):
    actor = adapted(base_model, "fpa_offline", "actor_rollout_ref.actor.optim.lr=1e-2", moved=False)
    before = weights_of(actor)
    for step in (1, 2, 3):
        update(actor, noting(batch(chained_additions)[1], tmp_path, step))
    after = weights_of(actor)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "lora_" in name}
    trained = {name for name, parameter in actor.actor.engine.module.named_parameters() if parameter.requires_grad}
    assert trained == moved
    for first, *_, last in read_token_log_probs(tmp_path).values():
        assert last.reference == first.reference == first.policy
        assert max(abs(a - b) for a, b in zip(last.policy, last.reference, strict=True)) > 0.1


@pytest.mark.patient
@pytest.mark.parametrize(
    ("recipe", "source"),
    [("fpa_offline", "hidden"), ("off_rl_kl", "hidden"), ("kto", "chosen"), ("dpo", "topk")],
)
def test_a_cache_gives_the_forward_passs_step(base_model, chained_additions, caches, recipe, source):
    """Loss and gradient: the reference's pass between the policy's forward and its backward leaves no trace."""
    steps = []
    for overrides in ((), from_cache(source, caches[source])):
        actor = adapted(base_model, recipe, *overrides)
        unit = "pair" if recipe == "dpo" else "trajectory"
        steps.append(update(actor, batch(chained_additions, unit)[1]))
    forward, cache = steps
    for name in ("loss", "grad_norm", "wrong/log_prob_change"):
        assert cache[name] == pytest.approx(forward[name], rel=2e-5, abs=1e-6), name


def test_a_cache_is_the_base_models_whatever_the_adapter_is(base_model, chained_additions, tmp_path, monkeypatch):
    from tests.integration import stepping

    def moved(*arguments):
        actor = worker(*arguments)
        drift(actor)
        return actor

    kept = {}
    for name, overrides in (("full", ()), ("lora", LORA)):
        with monkeypatch.context() as patch:
            if overrides:
                patch.setattr(stepping, "worker", moved)
            cached(base_model, chained_additions, "hidden", 0, 0, tmp_path / name, *overrides)
        kept[name] = {file.name: file.read_bytes() for file in (tmp_path / name).rglob("*.safetensors")}
    assert kept["full"]
    assert kept["full"] == kept["lora"]


def test_recomputed_layers_change_nothing(base_model, chained_additions):
    """Backward runs the layers again, with the adapter."""
    steps = []
    for recomputes in ("false", "true"):
        recomputing = f"actor_rollout_ref.model.enable_gradient_checkpointing={recomputes}"
        actor = adapted(base_model, "fpa_offline", recomputing, f"{UPDATE_TOKENS}=150")
        steps.append(update(actor, batch(chained_additions)[1]))
    for name in ("loss", "grad_norm", "wrong/future_weight"):
        assert steps[1][name] == pytest.approx(steps[0][name], rel=1e-6), name


def test_gradient_norms_are_measured_with_an_adapter(base_model, chained_additions):
    actor = adapted(base_model)
    before = weights_of(actor)
    norms = tu.get(actor.gradient_norms(batch(chained_additions)[1]), "metrics")
    assert all(norm > 0 for norm in norms.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in weights_of(actor).items())


@pytest.mark.parametrize("before", ["an update", "nothing"])
def test_the_exported_model_is_model_and_adapter_merged(base_model, chained_additions, tmp_path, before):
    actor = adapted(base_model)
    rows, data = batch(chained_additions)
    if before == "an update":
        update(actor, data)
    own = weights_of(actor)
    model, both = exported(actor, tmp_path / "best"), in_peft(base_model, actor)
    base = AutoModelForCausalLM.from_pretrained(base_model)
    assert type(model) is type(base)
    assert model.state_dict().keys() == base.state_dict().keys()
    for row in rows:
        torch.testing.assert_close(logits_of(model, row), logits_of(both, row), rtol=1e-4, atol=1e-5)
        assert (logits_of(model, row) - logits_of(base, row)).abs().max() > 0.1
    assert all(torch.equal(own[name], tensor) for name, tensor in weights_of(actor).items())


@pytest.mark.parametrize("contents", [(), ("++actor_rollout_ref.actor.checkpoint.save_lora_only=true",)])
def test_from_a_checkpoint_the_next_step_is_the_same(base_model, chained_additions, tmp_path, contents):
    learning = ("actor_rollout_ref.actor.optim.lr=1e-2", *contents)
    saved = adapted(base_model, "fpa_offline", *learning)
    update(saved, batch(chained_additions)[1])
    saved.save_checkpoint(str(tmp_path / "actor"))
    expected = [update(saved, batch(chained_additions)[1]) for _ in range(2)]
    resumed = adapted(base_model, "fpa_offline", *learning, moved=False, seed=1)
    resumed.load_checkpoint(str(tmp_path / "actor"))
    found = [update(resumed, batch(chained_additions)[1]) for _ in range(2)]
    for mine, wanted in zip(found, expected, strict=True):
        for name in ("loss", "grad_norm", "lr", "wrong/log_prob_change"):
            assert mine[name] == wanted[name], name
    # The second step shows that the optimizer's moments were restored as well.
    assert expected[1]["loss"] != expected[0]["loss"]


@pytest.mark.parametrize("end", ["lm_head", "embed_tokens"])
def test_an_adapter_of_embeddings_or_head_is_refused(base_model, end):
    with pytest.raises(ConfigError, match=f"target_modules adapts {end}, .*leave embeddings and head out"):
        adapted(base_model, "fpa_offline", f"actor_rollout_ref.model.target_modules=[q_proj,{end}]", moved=False)


@pytest.mark.patient
def test_two_processes_take_the_step_and_export_the_model_of_one(base_model, chained_additions, tmp_path):
    alone = adapted(base_model)
    expected = update(alone, batch(chained_additions)[1])
    model = exported(alone, tmp_path / "alone").state_dict()
    arguments = [str(argument) for argument in (base_model, chained_additions, tmp_path / "both")]
    environment = {**os.environ, "WORLD_SIZE": "2", "DIST_INIT_METHOD": f"file://{tmp_path}/meeting_point"}
    logs = [tmp_path / f"{rank}.log" for rank in range(2)]
    processes = []
    try:
        for rank, log in enumerate(logs):
            with log.open("w") as out:
                command = [sys.executable, "-m", "tests.integration.adapted_steps", *arguments]
                own = {**environment, "RANK": str(rank), "LOCAL_RANK": "0"}
                root = Path(__file__).parents[2]
                processes.append(subprocess.Popen(command, cwd=root, env=own, stdout=out, stderr=subprocess.STDOUT))
        statuses = [process.wait(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    texts = [log.read_text() for log in logs]
    assert not any(statuses), "\n".join(text[-3000:] for text in texts)
    steps = [json.loads(line) for text in texts for line in text.splitlines() if line.startswith('{"loss"')]
    assert len(steps) == 2
    for step in steps:
        for name in ("loss", "grad_norm"):
            assert step[name] == pytest.approx(expected[name], rel=2e-5), name
    for name, tensor in AutoModelForCausalLM.from_pretrained(tmp_path / "both").state_dict().items():
        torch.testing.assert_close(tensor, model[name], rtol=1e-4, atol=1e-5)
