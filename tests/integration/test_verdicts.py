"""A scorer that does not keep its contract is named in one line, wherever its verdicts are read."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from fpa_verl.errors import ConfigError
from fpa_verl.integration.servers.client import Asks, Question, Rollout
from fpa_verl.integration.servers.evaluation import Answering, Task
from fpa_verl.integration.servers.verdicts import returned_by_scorer
from fpa_verl.integration.trainers.scorer_failures import SetsUnscoredApart
from fpa_verl.reward.math_answer import compute_score
from fpa_verl.rollouts.problems import Problem

CONFIG = OmegaConf.create({"reward": {"custom_reward_function": {"path": "mine/scorer.py", "name": "grade"}}})
WITHOUT_STATUS = {"acc": 1.0}
MESSAGE = r"the scorer grade in mine/scorer.py returned no 'status' for a response: return what docs/own_task.md lists"
PROBLEM = Problem.from_text("p", "1 + 1", "2", "toy")


def test_what_is_there_is_returned():
    assert returned_by_scorer({"status": "timeout", "acc": 0.0}, "status", CONFIG) == "timeout"
    assert returned_by_scorer({"extracted": ""}, "extracted", CONFIG) == ""
    assert returned_by_scorer({"acc": 0.0}, "acc", CONFIG) == 0.0


@pytest.mark.parametrize("verdict", [WITHOUT_STATUS, {"status": None}, {}])
def test_what_is_missing_is_named_with_the_scorer(verdict):
    with pytest.raises(ConfigError, match=MESSAGE):
        returned_by_scorer(verdict, "status", CONFIG)


def test_a_status_that_nobody_knows():
    with pytest.raises(ConfigError, match=r"returned status 'correct', which is none of right, wrong, no_answer, time"):
        returned_by_scorer({"status": "correct"}, "status", CONFIG)


def test_the_page_that_the_error_names_lists_what_our_scorer_returns():
    page = (Path(__file__).parents[2] / "docs" / "own_task.md").read_text().partition("## Your own scorer")[2]
    listed = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert listed == ["score", "acc", "status", "extracted"]
    assert set(listed) == set(compute_score("toy", r"\boxed{2}", "2"))


def test_grpo(monkeypatch):
    stored = {"uid": ["g"], "extra_fields": [SimpleNamespace(data={"reward_extra_info": WITHOUT_STATUS})]}
    monkeypatch.setattr(unscored.tq, "kv_batch_get", lambda **_: stored)
    batch = SimpleNamespace(keys=["a"], tags=[{}], partition_id="train")
    with pytest.raises(ConfigError, match=MESSAGE):
        SetsUnscoredApart._compute_advantage(SimpleNamespace(config=CONFIG), batch, {})


@pytest.mark.parametrize("question", [Question(n=1), Question(n=1, validate=True)])
def test_collection_and_evaluation(monkeypatch, question):
    uids = []

    def submit(prompts, partition):
        uids.extend(prompts["uid"])

    def sample(**_):
        return SimpleNamespace(keys=[f"{uids[0]}_0_0"], partition_id="train"), None

    stored = {name: [torch.tensor([1, 2])] for name in ("prompts", "responses", "rollout_log_probs", "rm_scores")}
    stored["extra_fields"] = [{"reward_extra_info": WITHOUT_STATUS}]
    monkeypatch.setattr(asking.tq, "kv_batch_get", lambda **_: stored)

    class Unstarted(SimpleNamespace):
        roll_out = Asks.roll_out
        _ask = Asks._ask

    sampler = Unstarted(
        config=CONFIG,
        stop_ids={2},
        global_steps=0,
        _submit=submit,
        replay_buffer=SimpleNamespace(sample=sample),
    )
    with pytest.raises(ConfigError, match=MESSAGE):
        sampler.roll_out([PROBLEM], question)


def test_an_evaluation_keeps_the_answers_that_were_graded():
    rollout = Rollout(PROBLEM, 0, 0, [1], [2], [-0.1], 1.0, {"status": "right"}, "right", "stop")
    tokenizer = SimpleNamespace(decode=lambda ids, **_: "2")
    with pytest.raises(ConfigError, match="returned no 'extracted'"):
        Answering._sample(SimpleNamespace(config=CONFIG, tokenizer=tokenizer), Task(PROBLEM, 0), rollout)
