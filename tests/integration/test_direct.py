"""Servers asked without agent loops answer as they do by verl's, and hold one model after another."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from fpa_verl.demo.model import character_tokenizer, small_qwen3
from fpa_verl.integration.servers.direct import why_agent_loops
from fpa_verl.integration.servers.verdicts import RAISED
from tests.integration.both_ways import PROBLEMS, N
from tests.integration.running import DEMO, composed, train


@pytest.mark.parametrize("recipe", ["collect", "evaluate", "grpo_baseline", "fpa_offline"])
def test_every_recipe_asks_its_servers_directly(recipe):
    assert why_agent_loops(composed(recipe, *DEMO)) is None
    assert why_agent_loops(composed(recipe)) is None
    assert "more than text" in why_agent_loops(composed(recipe), processor=object())


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent", "default_agent_loop=tool_agent"),
        ("actor_rollout_ref.rollout.agent.agent_loop_config_path=loops.yaml", "agent_loop_config_path"),
        ("actor_rollout_ref.rollout.agent.agent_loop_manager_class=mine.Manager", "agent_loop_manager_class"),
        ("actor_rollout_ref.rollout.multi_turn.tool_config_path=tools.yaml", "has tools"),
        ("actor_rollout_ref.rollout.name=sglang", "rollout.name=sglang"),
        ("actor_rollout_ref.rollout.trace.backend=mlflow", "trace"),
        ("actor_rollout_ref.rollout.full_determinism=true", "full_determinism"),
        ("reward.reward_manager.name=Mine", "reward_manager"),
        ("reward.reward_model.enable=true", "reward_manager"),
        ("distillation.enabled=true", "distillation"),
    ],
)
def test_what_needs_an_agent_loop_gets_one(override, why):
    assert why in why_agent_loops(composed("collect", *DEMO, override))


def saved(folder, seed, **sizes):
    torch.manual_seed(seed)
    tokenizer = character_tokenizer()
    small_qwen3(tokenizer, hidden=64, **{"layers": 2, **sizes}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def asked(folder, *models):
    folder.mkdir()
    command = [sys.executable, "-m", "tests.integration.both_ways", str(folder), *map(str, models)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return json.loads((folder / "both.json").read_text())


@pytest.fixture(scope="module")
def models(tmp_path_factory, base_model):
    folder = tmp_path_factory.mktemp("models")
    return str(base_model), saved(folder / "b", 1), saved(folder / "deeper", 2, layers=3)


@pytest.fixture(scope="module")
def found(tmp_path_factory, models):
    a, b, deeper = models
    return asked(tmp_path_factory.mktemp("asked") / "a", a, b, deeper, a)


def near(answers):
    """Without the last digits of log-probs, which hang on who was in a batch with whom."""
    return [{**one, "log_probs": [round(p, 3) for p in one["log_probs"]]} for one in answers]


@pytest.mark.engine
@pytest.mark.patient
@pytest.mark.parametrize(("name", "each"), [("collected", N), ("evaluated", 1)])
def test_both_ways_bring_the_same_answers(found, name, each):
    """Ids of prompts and responses, log-probs, verdicts and what they end with; one problem that failed is missing."""
    loops, direct = (found[name][way] for way in ("loops", "direct"))
    assert len(direct["answers"]) == each * PROBLEMS
    assert near(direct["answers"]) == near(loops["answers"])
    assert direct["counted"]
    assert bool(direct["answers"][0]["log_probs"]) == (name == "collected")


@pytest.mark.engine
@pytest.mark.patient
def test_among_those_answers_is_everything_that_may_become_of_one(found):
    answers = found["collected"]["direct"]["answers"]
    assert {one["status"] for one in answers} == {"right", "wrong", "error"}
    assert {one["finish_reason"] for one in answers} >= {"stop_text", "length"}
    assert {one["status"] for one in answers if RAISED in one["verdict"]} == {"error"}
    assert not any(one["problem"] == "refused" for one in answers)


@pytest.mark.engine
@pytest.mark.patient
def test_draws_without_a_seed_are_as_many_and_differ(found):
    direct = found["drawn"]["direct"]["answers"]
    assert [(one["place"], one["sample"]) for one in direct] == [
        (one["place"], one["sample"]) for one in found["drawn"]["loops"]["answers"]
    ]
    assert len({tuple(one["response_ids"]) for one in direct}) > PROBLEMS


@pytest.mark.engine
@pytest.mark.patient
def test_training_prompts_leave_the_same_fields_and_tags_for_verl(found):
    """Under the same keys, for its workers, its metrics and its log of rollouts; drawn anew, so of other lengths."""
    loops, direct = (found["trained"][way] for way in ("loops", "direct"))
    # By agent loops the answered sessions of a failed problem stay; here a problem fails as a whole.
    assert set(direct) == set(loops)
    assert len(direct) == N * PROBLEMS
    for key, left in direct.items():
        for what in ("tag", "fields", "prompt", "beside", "steps"):
            assert left[what] == loops[key][what], (key, what)
        assert left["lengths"][2] == sum(left["lengths"][:2])


@pytest.mark.engine
@pytest.mark.patient
def test_one_engine_answers_for_one_model_after_another(found, models, tmp_path):
    """As an engine that started with it would, and with the first again in the end."""
    b, refused, a_again = found["loaded"]
    a = found["evaluated"]["direct"]["answers"]
    assert a_again == a
    assert b != a
    assert "cannot take the place of" in refused
    assert "num_hidden_layers of config.json is 3 and not 2" in refused
    assert asked(tmp_path / "b", models[1])["evaluated"]["direct"]["answers"] == b


@pytest.mark.slow
def test_a_recipe_with_another_agent_loop_is_collected_by_that(workspace, base_model):
    folder = workspace / "by_loops"
    done = train(
        "collect",
        workspace,
        base_model,
        f"rollouts={folder}",
        f"run_dir={folder}",
        "scale.rollouts_per_problem=2",
        "actor_rollout_ref.rollout.agent.default_agent_loop=single_turn_agent",
    )
    # A random model solves nothing, which is said once everything is there.
    assert "nothing to train on" in done.stderr, done.stdout[-3000:] + done.stderr[-3000:]
    log = (folder / "log.txt").read_text()
    assert "answers come by verl's agent loops: rollout.agent.default_agent_loop=single_turn_agent" in log
    assert json.loads((folder / "manifest.json").read_text())["counts"]["trajectories"] == 28
