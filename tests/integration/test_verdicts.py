"""A scorer that does not keep its contract is named in one line, wherever its verdicts are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fpa_verl.demo.model import character_tokenizer
from fpa_verl.errors import ConfigError
from fpa_verl.integration.servers.client import Output, RolloutClient, SamplingRequest
from fpa_verl.integration.servers.evaluation import Evaluation, EvaluationPlan
from fpa_verl.integration.servers.verdicts import BROKEN, RAISED, note_failures, returned_by_scorer
from fpa_verl.integration.trainers.scorer_failures import scored_by
from fpa_verl.reward.math_answer import compute_score
from fpa_verl.rollouts.problems import Problem
from fpa_verl.runs.answers import AnswerStore

CONFIG = OmegaConf.create({"reward": {"custom_reward_function": {"path": "mine/scorer.py", "name": "grade"}}})
WITHOUT_STATUS = {"acc": 1.0}
MESSAGE = (
    r"the scorer grade in mine/scorer.py returned no 'status' for a response, and reward.reward_manager is not the"
)
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
    with pytest.raises(ConfigError, match=r"returned status 'correct', none of right, wrong, no_answer, time"):
        returned_by_scorer({"status": "correct"}, "status", CONFIG)


def test_the_page_that_the_error_names_lists_what_our_scorer_returns():
    page = (Path(__file__).parents[2] / "docs" / "own_task.md").read_text().partition("## Your own scorer")[2]
    listed = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert listed == ["score", "status", "extracted"]
    assert {*listed, "acc"} == set(compute_score("toy", r"\boxed{2}", "2"))


def test_a_contract_that_was_broken_in_a_worker_is_said_here():
    with pytest.raises(ConfigError, match="it returned a tuple"):
        returned_by_scorer({BROKEN: "it returned a tuple"}, "status", CONFIG)


def test_what_a_scorer_raises_is_said_once(capsys):
    raised = {"status": "error", RAISED: "KeyError: 'gold'"}
    note_failures([{"status": "right"}, raised, raised], CONFIG)
    assert capsys.readouterr().out.endswith(
        "note: the scorer grade in mine/scorer.py raised for 2 of 3 responses, first KeyError: 'gold'; they count as "
        "error and train nothing\n"
    )
    note_failures([{"status": "error"}], CONFIG)
    assert not capsys.readouterr().out
    with pytest.raises(ConfigError, match="raised for 2 of 2 responses, first KeyError: 'gold'"):
        scored_by({"a": raised, "b": raised}, CONFIG)


def test_grpo():
    verdicts = {"a": {"status": "right"}, "b": {"status": "timeout"}, "c": {"status": "no_answer"}}
    assert scored_by(verdicts, CONFIG) == {"a", "c"}
    with pytest.raises(ConfigError, match=MESSAGE):
        scored_by({**verdicts, "d": WITHOUT_STATUS}, CONFIG)


class ServersOfOneAnswer:
    def __init__(self, verdict):
        self.verdict = verdict

    def answer(self, problems, request, first_samples, arrived):
        return [Output(0, 0, [1], [2], [-0.1], 1.0, self.verdict, {})]


def client(base_model, verdict) -> RolloutClient:
    config = OmegaConf.merge(CONFIG, {"actor_rollout_ref": {"model": {"path": str(base_model)}}})
    return RolloutClient(ServersOfOneAnswer(verdict), config, character_tokenizer())


@pytest.mark.parametrize("request_", [SamplingRequest(n=1), SamplingRequest(n=1, validate=True)])
def test_collection_and_evaluation(base_model, request_):
    with pytest.raises(ConfigError, match=MESSAGE):
        client(base_model, WITHOUT_STATUS).answers([PROBLEM], request_)


def test_an_evaluation_keeps_the_answers_that_were_graded(base_model, tmp_path):
    plan = EvaluationPlan([PROBLEM], {"toy": 1})
    evaluation = Evaluation(client(base_model, {"status": "right"}), plan, AnswerStore(tmp_path), tmp_path)
    with pytest.raises(ConfigError, match="returned no 'extracted'"):
        evaluation.ask()
