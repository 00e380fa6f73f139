"""verl's own FSDP2 engine and worker in this process, without Ray: what a step computes."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from verl.trainer.ppo import core_algos
from verl.utils import tensordict_utils as tu

from fpa_verl.errors import DivergenceError, IntegrationError
from fpa_verl.integration.workers.tokens import NOTE_TOKENS, NoteRequest
from fpa_verl.objectives import OBJECTIVES, Trajectories, future_log_probs, trajectory_weights
from fpa_verl.rollouts.selection import ROLES
from fpa_verl.runs.tokens import read_token_log_probs
from tests.integration.stepping import batch, cached, column, column_batch, drift, from_cache, update, worker

pytestmark = pytest.mark.usefixtures("one_process")


def logits_of(model, row) -> torch.Tensor:
    """(|y|, V) logits at the positions that predict the response, from transformers alone."""
    ids = torch.tensor([row["prompt_ids"] + row["response_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    return logits[len(row["prompt_ids"]) - 1 : -1]


class ByHand:
    """Policy and reference in transformers, float64 at the logits, one trajectory at a time."""

    def __init__(self, actor, base_model) -> None:
        from transformers import AutoModelForCausalLM

        self.policy, self.reference = (
            AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32).eval() for _ in range(2)
        )
        self.policy.load_state_dict({k: v.full_tensor() for k, v in actor.actor.engine.module.state_dict().items()})

    def trajectories(self, rows, lam) -> list[Trajectories]:
        found = []
        for row in rows:
            labels = torch.tensor(row["response_ids"])
            h, h_ref = logits_of(self.policy, row).double(), logits_of(self.reference, row).double()
            mask = torch.ones(1, len(labels), dtype=torch.bool)
            log_probs, ref = (x.log_softmax(-1).gather(-1, labels[:, None]).T for x in (h, h_ref))
            future = trajectory_weights(future_log_probs(h, h_ref, labels, lam)[None], mask)
            sign = torch.tensor([1.0 if row["status"] == "right" else -1.0], dtype=torch.float64)
            found.append(Trajectories(log_probs, mask, sign, ref, future))
        return found


ONE_A_ROW = ("rewards", "future_weights", "pass_rates")


def unit_of(actor) -> str:
    """What the dataset selects for the worker's objective."""
    return next((unit for unit, roles in ROLES.items() if roles == actor._policy_loss.roles), "traces")


@pytest.fixture
def rollouts_of(chained_additions, of_both_modes):
    """The dataset that a unit is selected from."""
    return lambda unit: of_both_modes if unit in ("pair_of_each_mode", "traces") else chained_additions


def items_of(objective, trajectories) -> list[Trajectories]:
    """Each item by itself, padded to its own length."""
    items, n = [], objective.rows_per_item
    for start in range(0, len(trajectories), n):
        members = trajectories[start : start + n]
        width = max(t.log_probs.shape[1] for t in members)

        def padded(name, members=members, width=width):
            rows = [getattr(t, name) for t in members]
            return torch.cat([torch.nn.functional.pad(row, (0, width - row.shape[1])) for row in rows])

        items.append(
            Trajectories(
                **{name: padded(name) for name in ("log_probs", "response_mask", "ref_log_probs")},
                **{name: torch.cat([getattr(t, name) for t in members]) for name in ONE_A_ROW},
                roles=objective.roles,
            )
        )
    return items


# Each objective by its recipe, and FPA on one side; svpo's values are test_value_head.py's.
RECIPES = [
    "fpa_offline",
    *sorted(OBJECTIVES.keys() - {"fpa", "fpa_one_sided", "svpo"}),
    "fpa_correct_only",
    "fpa_incorrect_only",
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_is_the_objective_by_hand(recipe, base_model, rollouts_of):
    """Engine, unpadding, labels, reference, pairs and weights against transformers and float64 by hand."""
    actor = worker(base_model, recipe)
    drift(actor)
    by_hand = ByHand(actor, base_model)
    objective = actor._policy_loss.objective
    rows, data = batch(rollouts_of(unit_of(actor)), unit_of(actor))
    trajectories = by_hand.trajectories(rows, lam=objective.extrapolation)
    point = objective.reference_point(torch.cat([t.log_ratio() for t in trajectories]).mean())
    length = sum(len(row["response_ids"]) for row in rows) / len(rows)
    rates = torch.tensor([row["pass_rate"] for row in rows], dtype=torch.float64)
    trajectories = [replace(t, pass_rates=rate[None]) for t, rate in zip(trajectories, rates, strict=True)]
    losses = [
        objective(replace(item, reference_point=point, mean_length=length))
        for item in items_of(objective, trajectories)
    ]
    expected = torch.cat(losses).mean().item()
    assert update(actor, data)["loss"] == pytest.approx(expected, rel=5e-6, abs=2e-6)


def test_forward_kl_is_added_to_the_objective(base_model, chained_additions):
    results = []
    for recipe in ("off_rl", "off_rl_kl"):
        actor = worker(base_model, recipe)
        drift(actor)
        results.append(update(actor, batch(chained_additions)[1]))
    rows, _ = batch(chained_additions)
    actor = worker(base_model, "off_rl_kl")
    drift(actor)
    by_hand = ByHand(actor, base_model)
    kls = []
    for row in rows:
        log_p, log_ref = (logits_of(m, row).double().log_softmax(-1) for m in (by_hand.policy, by_hand.reference))
        kls.append((log_ref.exp() * (log_ref - log_p)).sum(-1).mean())
    expected = torch.stack(kls).mean().item()
    assert results[1]["forward_kl"] == pytest.approx(expected, rel=1e-5)
    assert results[1]["loss"] - results[0]["loss"] == pytest.approx(0.04 * expected, rel=1e-3)
    assert results[1]["grad_norm"] != pytest.approx(results[0]["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("over", ["tokens", "sequence"])
def test_forward_kl_as_sampled_is_the_log_ratio_of_the_tokens(base_model, chained_additions, over):
    """tau times the mean over responses of log pi_ref(y) - log pi(y), or of its mean over tokens; without logits."""
    key = "actor_rollout_ref.actor.policy_loss"
    readings = (f"{key}.forward_kl_estimate=sampled", f"{key}.forward_kl_over={over}")
    actor = worker(base_model, "off_rl_kl", *readings)
    drift(actor)
    by_hand = ByHand(actor, base_model)
    rows, data = batch(chained_additions)
    ratios = [(t.ref_log_probs - t.log_probs)[0] for t in by_hand.trajectories(rows, lam=0.0)]
    expected = torch.stack([one.sum() if over == "sequence" else one.mean() for one in ratios]).mean().item()
    assert update(actor, data)["forward_kl"] == pytest.approx(expected, rel=1e-5)


def test_forward_kl_of_the_sequence_is_the_sum_over_its_tokens(base_model, chained_additions):
    key = "actor_rollout_ref.actor.policy_loss"
    found = {}
    for over in ("tokens", "sequence"):
        actor = worker(base_model, "off_rl_kl", f"{key}.forward_kl_over={over}")
        drift(actor)
        rows, _ = batch(chained_additions)
        alike = [row for row in rows if len(row["response_ids"]) == len(rows[0]["response_ids"])]
        found[over] = update(actor, column_batch(alike))["forward_kl"]
    assert found["sequence"] == pytest.approx(found["tokens"] * len(rows[0]["response_ids"]), rel=1e-5)


def test_verls_own_loss_gets_the_reference_as_old_policy(base_model, chained_additions):
    actor = worker(base_model, "dro")
    drift(actor)
    by_hand = ByHand(actor, base_model)
    rows, data = batch(chained_additions)
    losses = []
    for t in by_hand.trajectories(rows, lam=0.0):
        log_ratio = t.log_probs - t.ref_log_probs
        losses.append(-(t.rewards * t.log_probs - 0.5 * 0.1 * log_ratio**2).mean())
    assert update(actor, data)["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=5e-6, abs=2e-6)


def test_lambda_zero_is_off_rl_value_and_gradient(base_model, chained_additions):
    results = []
    for recipe, overrides in (("off_rl", ()), ("fpa_offline", ("actor_rollout_ref.actor.policy_loss.lam=0",))):
        actor = worker(base_model, recipe, *overrides)
        drift(actor)
        results.append(update(actor, batch(chained_additions)[1]))
    for name in ("loss", "grad_norm", "wrong/policy_weight"):
        assert results[0][name] == pytest.approx(results[1][name], rel=1e-6), name


def test_policy_at_the_reference_makes_fpa_off_rl(base_model, chained_additions):
    off_rl, fpa = (
        update(worker(base_model, recipe), batch(chained_additions)[1]) for recipe in ("off_rl", "fpa_offline")
    )
    for name in ("loss", "grad_norm"):
        assert fpa[name] == pytest.approx(off_rl[name], rel=1e-5), name


def test_away_from_the_reference_fpa_is_not_off_rl(base_model, chained_additions):
    actor = worker(base_model, "fpa_offline")
    drift(actor)
    metrics = update(actor, batch(chained_additions)[1])
    assert abs(metrics["wrong/future_weight"] / metrics["wrong/policy_weight"] - 1) > 1e-3
    assert metrics["wrong/log_prob_change"] != 0


@pytest.mark.patient
@pytest.mark.parametrize("recipe", ["fpa_offline", "dpo", "simper_fpa", "kto", "off_rl_kl", "bvpo", "bvpo_k_trace"])
def test_micro_batches_change_nothing(base_model, rollouts_of, recipe):
    results = []
    # A trajectory has about 45 tokens: 8 in one micro-batch, then 2 or 3, or an item of four.
    for limit in (16384, 230 if recipe.startswith("bvpo") else 150):
        actor = worker(
            base_model,
            recipe,
            f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={limit}",
            f"actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu={limit}",
        )
        drift(actor)
        unit = unit_of(actor)
        results.append(update(actor, batch(rollouts_of(unit), unit)[1]))
    for name in ("loss", "grad_norm", "right/policy_weight"):
        assert results[1][name] == pytest.approx(results[0][name], rel=1e-5), name


def test_pairs_taken_apart_are_noticed(base_model, chained_additions):
    actor = worker(base_model, "dpo")
    with pytest.raises(ValueError, match="dpo needs pairs"):
        update(actor, batch(chained_additions)[1])


def test_the_reference_can_be_held_for_the_dynamics_alone(base_model, chained_additions):
    results = []
    for track in ("false", "true"):
        actor = worker(base_model, "off_rl", f"actor_rollout_ref.actor.policy_loss.track_reference={track}")
        drift(actor)
        results.append(update(actor, batch(chained_additions)[1]))
    plain, tracked = results
    assert "wrong/log_prob_change" not in plain
    assert tracked["wrong/log_prob_change"] != 0
    assert tracked["loss"] == plain["loss"]


def test_another_reference_is_the_model_that_is_named(base_model, chained_additions, tmp_path):
    from transformers import AutoModelForCausalLM

    base, moved = (AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32) for _ in "bm")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in moved.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    shutil.copytree(base_model, tmp_path / "moved")
    moved.save_pretrained(tmp_path / "moved")
    rows, data = batch(chained_additions)

    def log_prob(model, row) -> float:
        labels = torch.tensor(row["response_ids"])[:, None]
        return logits_of(model, row).log_softmax(-1).gather(-1, labels).sum().item()

    changes = {"right": 0.0, "wrong": 0.0}
    for row in rows:
        changes["right" if row["status"] == "right" else "wrong"] += log_prob(moved, row) - log_prob(base, row)
    fixed = update(worker(tmp_path / "moved", "fpa_offline", f"reference.model={base_model}"), data)
    own = update(worker(tmp_path / "moved", "fpa_offline"), batch(chained_additions)[1])
    for side, change in changes.items():
        assert abs(change) > 0.1
        assert fixed[f"{side}/log_prob_change"] == pytest.approx(change, rel=1e-3, abs=1e-3)
        assert own[f"{side}/log_prob_change"] == pytest.approx(0, abs=1e-3)


def test_the_policy_is_exported_as_a_hugging_face_model(base_model, chained_additions, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    actor = worker(base_model, "off_rl")
    drift(actor)
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "of_before").touch()
    actor.export_hugging_face(str(tmp_path / "best"), {"step": 1})
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "best")
    mine = {k: v.full_tensor() for k, v in actor.actor.engine.module.state_dict().items()}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, mine[name]), name
    assert len(AutoTokenizer.from_pretrained(tmp_path / "best")) == len(AutoTokenizer.from_pretrained(base_model))
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert not (tmp_path / "best" / "of_before").exists()


@pytest.fixture(scope="module")
def caches(one_process, base_model, chained_additions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    tokens = {"hidden": (0, 0), "topk": (4, 16), "chosen": (0, 0)}
    return {
        source: cached(base_model, chained_additions, source, *kept, folder / source) for source, kept in tokens.items()
    }


@pytest.mark.patient
@pytest.mark.parametrize(
    ("recipe", "source"),
    [("fpa_offline", "hidden"), ("off_rl_kl", "hidden"), ("dpo", "hidden"), ("dpo", "topk"), ("kto", "chosen")],
)
def test_a_cache_gives_the_forward_passs_step(base_model, chained_additions, caches, recipe, source):
    """Where the source keeps all that the objective asks for: the same loss, gradient and dynamics."""
    results = []
    for overrides in ((), from_cache(source, caches[source])):
        actor = worker(base_model, recipe, *overrides)
        assert (actor.ref is None) == bool(overrides), "a cached reference needs no model"
        drift(actor)
        unit = unit_of(actor)
        results.append(update(actor, batch(chained_additions, unit)[1]))
    forward, cache = results
    assert forward.keys() == cache.keys()
    for name in ("loss", "grad_norm", "wrong/log_prob_change"):
        assert cache[name] == pytest.approx(forward[name], rel=2e-5, abs=1e-6), name


def test_samples_come_near_the_exact_weight_and_no_normaliser_is_far_above(base_model, chained_additions, caches):
    steps = []
    for overrides in ((), from_cache("topk", caches["topk"]), from_cache("chosen", caches["chosen"])):
        actor = worker(base_model, "fpa_offline", *overrides)
        drift(actor)
        steps.append(update(actor, batch(chained_additions)[1]))
    exact, topk, chosen = (step["wrong/future_weight"] for step in steps)
    assert topk != exact
    assert abs(topk - exact) < (chosen - exact) / 5
    assert "cache_error" not in steps[0]
    assert 0 < steps[1]["cache_error"] < 0.1


def test_at_the_start_every_source_gives_off_rls_weight(base_model, chained_additions, caches):
    off_rl = update(worker(base_model, "off_rl"), batch(chained_additions)[1])
    for source, folder in caches.items():
        fpa = update(worker(base_model, "fpa_offline", *from_cache(source, folder)), batch(chained_additions)[1])
        assert fpa["loss"] == pytest.approx(off_rl["loss"], rel=1e-5), source


def test_micro_batches_of_a_cache_change_nothing(base_model, chained_additions, caches):
    results = []
    for limit in (16384, 150):
        actor = worker(
            base_model,
            "fpa_offline",
            *from_cache("topk", caches["topk"]),
            f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={limit}",
        )
        drift(actor)
        results.append(update(actor, batch(chained_additions)[1]))
    for name in ("loss", "grad_norm", "right/future_weight"):
        assert results[1][name] == pytest.approx(results[0][name], rel=1e-5), name


def test_a_loss_that_is_not_finite_names_its_trajectories(base_model, chained_additions):
    actor = worker(base_model, "off_rl")
    with torch.no_grad():
        for parameter in actor.actor.engine.module.parameters():
            parameter.to_local().fill_(torch.nan)
    with pytest.raises(DivergenceError, match="p0/0/0"):
        update(actor, batch(chained_additions)[1])


def noting(data, run_dir, step=3):
    """The batch as the trainer hands it over in a run that notes tokens."""
    tu.assign_non_tensor(data, **{NOTE_TOKENS: NoteRequest(str(run_dir), attempt=1, step=step)})
    return data


@pytest.mark.parametrize("limit", [16384, 150])
def test_watched_tokens_are_noted_as_they_were_before_the_update(base_model, chained_additions, tmp_path, limit):
    """In one micro-batch and in several: policy, reference and future policy against transformers, token by token."""
    actor = worker(base_model, "fpa_offline", f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={limit}")
    drift(actor)
    by_hand = ByHand(actor, base_model)
    rows, data = batch(chained_additions)
    update(actor, noting(data, tmp_path))
    noted = read_token_log_probs(tmp_path)
    # Two groups of one right and three wrong trajectories; the first wrong one of each is watched.
    assert [row["row"] for row in rows] == list(range(8))
    assert sorted(noted) == [0, 1, 4, 5]
    for row, (one,) in noted.items():
        labels = torch.tensor(rows[row]["response_ids"])
        h, h_ref = (logits_of(model, rows[row]).double() for model in (by_hand.policy, by_hand.reference))
        policy, reference = (x.log_softmax(-1).gather(-1, labels[:, None])[:, 0] for x in (h, h_ref))
        assert one.step == 3
        # Written with three decimals.
        assert one.policy == pytest.approx(policy.tolist(), abs=6e-4)
        assert one.reference == pytest.approx(reference.tolist(), abs=6e-4)
        assert one.future == pytest.approx(future_log_probs(h, h_ref, labels, 2.0).tolist(), abs=6e-4)


@pytest.mark.parametrize(
    ("recipe", "kinds"), [("off_rl", {"policy"}), ("dpo", {"policy", "reference"}), ("kto", {"policy", "reference"})]
)
def test_what_an_objective_does_not_form_is_not_noted(base_model, chained_additions, tmp_path, recipe, kinds):
    actor = worker(base_model, recipe)
    unit = unit_of(actor)
    update(actor, noting(batch(chained_additions, unit)[1], tmp_path))
    for (one,) in read_token_log_probs(tmp_path).values():
        assert {kind for kind in ("policy", "reference", "future") if getattr(one, kind) is not None} == kinds
        if one.reference is not None:
            # Before its first update the policy is the reference.
            assert one.policy == pytest.approx(one.reference, abs=1.1e-3)


def test_rows_that_fill_a_batch_up_are_not_noted(base_model, chained_additions, tmp_path):
    rows, data = batch(chained_additions)
    masks = [torch.zeros if row["row"] == 0 else torch.ones for row in rows]
    data["response_mask"] = column([mask(len(row["response_ids"])) for mask, row in zip(masks, rows, strict=True)])
    update(worker(base_model, "fpa_offline"), noting(data, tmp_path))
    assert sorted(read_token_log_probs(tmp_path)) == [1, 4, 5]


def test_nothing_is_noted_unless_it_is_asked_for(base_model, chained_additions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    update(worker(base_model, "fpa_offline"), batch(chained_additions)[1])
    assert not list(tmp_path.iterdir())


def test_a_worker_without_the_plugin_says_so(base_model, monkeypatch):
    monkeypatch.delitem(core_algos.POLICY_LOSS_REGISTRY, "fpa")
    with pytest.raises(IntegrationError, match="the plugin is not loaded in the worker on"):
        worker(base_model, "fpa_offline")
