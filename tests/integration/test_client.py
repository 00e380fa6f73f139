"""Asking rollout servers: which answers come back, what becomes of those that do not, and what an evaluation keeps."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import nullcontext

import pytest
from omegaconf import OmegaConf

from fpa_verl.demo.model import character_tokenizer
from fpa_verl.errors import IntegrationError
from fpa_verl.integration.servers.agent_loops import last_outputs, prompt_batch
from fpa_verl.integration.servers.client import SEEDED_SINGLE_TURN, Output, RolloutClient, SamplingRequest
from fpa_verl.integration.servers.evaluation import Evaluation, EvaluationPlan
from fpa_verl.integration.trainers.validating import prompts_of, validation_metrics
from fpa_verl.rollouts.problems import Problem
from fpa_verl.runs.answers import AnswerStore, outcomes
from fpa_verl.runs.names import answers_of_step
from fpa_verl.runs.progress import read_count
from fpa_verl.runs.run import read_run

A, B = (Problem.from_text(name, f"{name}?", "1", "toy") for name in ("a", "b"))
OTHER = Problem.from_text("a", "another a?", "1", "other")
TOKENIZER = character_tokenizer()
END = TOKENIZER.eos_token_id


class FakeServers:
    """Servers that answer as told: data source, problem and sample to a status, or to nothing."""

    def __init__(self, verdict=None):
        self.verdict, self.asked = verdict, []

    def answer(self, problems, request, first_samples, arrived):
        found = []
        for place, (problem, first) in enumerate(zip(problems, first_samples, strict=True)):
            for session in range(request.n):
                asked = (problem.data_source, problem.problem_id, first + session)
                self.asked.append(asked)
                if status := self.verdict(*asked):
                    verdict = {"status": status, "extracted": "1"}
                    score = float(status == "right")
                    found.append(Output(place, session, [5], [6, END], [-0.5, -0.1], score, verdict, {}))
        return found[::-1]


@pytest.fixture
def client_of(base_model):
    def make(verdict=None, last_answered=None):
        servers = FakeServers(verdict)
        sampling = {"temperature": 0.7, "top_p": 1.0, "top_k": -1, "max_model_len": 32}
        config = {"actor_rollout_ref": {"model": {"path": str(base_model)}, "rollout": sampling}}
        return RolloutClient(servers, OmegaConf.create(config), TOKENIZER, last_answered), servers

    return make


def evaluation(client, tmp_path, *problems, samples=2, step=0, folder=""):
    plan = EvaluationPlan(problems, defaultdict(lambda: samples))
    store = AnswerStore(tmp_path, folder)
    return Evaluation(client, plan, store, tmp_path, step=step), store


def test_rollouts_come_in_the_order_of_their_problems_with_what_they_are_worth(client_of):
    client, _ = client_of(lambda source, problem, sample: "right" if sample else "wrong")
    found = client.answers([A, B], SamplingRequest(n=2))
    assert [(r.problem.problem_id, r.sample, r.status, r.score) for r in found] == [
        ("a", 0, "wrong", 0.0),
        ("a", 1, "right", 1.0),
        ("b", 0, "wrong", 0.0),
        ("b", 1, "right", 1.0),
    ]
    assert (found[0].prompt_ids, found[0].response_ids, found[0].log_probs) == ([5], [6, END], [-0.5, -0.1])
    assert client.text(found[0]) == TOKENIZER.decode([6])


def test_what_ends_without_an_end_of_sequence_token_was_cut_off(client_of, monkeypatch):
    client, servers = client_of(lambda *_: "right")
    monkeypatch.setattr(servers, "answer", lambda *_: [Output(0, 0, [5], [6, 7], [], 1.0, {"status": "right"}, {})])
    assert client.answers([A], SamplingRequest(n=1))[0].finish_reason == "length"


def test_an_answer_that_goes_on_with_another_question_ends_there(base_model):
    """Behind the text that ends it, or within the token that completes that; an end of the sequence comes first."""
    written = {"a": ("12=", False), "b": ("1=2", False), "c": ("12=", True), "d": ("1=23", False)}

    class Stopping(FakeServers):
        def answer(self, problems, request, first_samples, arrived):
            texts = [written[problem.problem_id] for problem in problems]
            ids = [[*TOKENIZER.encode(text), *([END] if ends else [])] for text, ends in texts]
            right = {"status": "right"}
            return [Output(i, 0, [5], one, [-0.1] * len(one), 1.0, right, {}) for i, one in enumerate(ids)]

    model = {"path": str(base_model)}
    config = OmegaConf.create({"actor_rollout_ref": {"model": model}, "prompt": {"stop": ["=", "2="]}})
    client = RolloutClient(Stopping(), config, TOKENIZER)
    problems = [Problem.from_text(name, "?", "1", "toy") for name in written]
    found = client.answers(problems, SamplingRequest(n=1))
    # With one character a token, "=2" has "=" in the last two, as a token "=2" would have it in one.
    assert [one.finish_reason for one in found] == ["stop_text", "stop_text", "stop", "length"]


def test_every_answer_is_asked_for_once_and_kept(client_of, tmp_path):
    client, servers = client_of(lambda source, problem, sample: "right" if problem == "a" else "wrong")
    wanted, store = evaluation(client, tmp_path, A, B, OTHER)
    assert wanted.ask(batch=4) == []
    sets = (("toy", "a"), ("toy", "b"), ("other", "a"))
    everything = [(source, problem, sample) for source, problem in sets for sample in range(2)]
    assert servers.asked == everything
    kept = store.read()
    assert sorted(zip(kept["data_source"], kept["problem_id"], kept["sample"], strict=True)) == sorted(everything)
    # 4 and 2 at a time.
    assert len(list((tmp_path / "samples").glob("*.parquet"))) == 2
    wanted.ask(batch=4)
    assert len(servers.asked) == 6, "nothing is missing any more"


def test_an_answer_that_never_comes_is_tried_again_and_left_out(client_of, tmp_path):
    client, servers = client_of(lambda source, problem, sample: None if (problem, sample) == ("b", 1) else "right")
    wanted, store = evaluation(client, tmp_path, A, B)
    left = wanted.ask(batch=10)
    assert [(task.problem.problem_id, task.sample) for task in left] == [("b", 1)]
    # Once with the others and once alone; then a problem that was answered shows that servers are alive.
    assert servers.asked[4:] == [("toy", "b", 1), ("toy", "a", 0)]
    assert outcomes(store.read()) == {"a": (2, 2), "b": (1, 1)}


def test_answers_are_counted_while_they_come_and_what_was_there_before_with_them(client_of, tmp_path, monkeypatch):
    monkeypatch.setattr("fpa_verl.runs.progress.COUNT_EVERY_S", 0.0)
    client, servers = client_of(lambda *_: "right")
    seen, answer = [], servers.answer

    def one_by_one(problems, request, first_samples, arrived):
        found = answer(problems, request, first_samples, arrived)
        for number in range(len(found) + 1):
            arrived(number)
            seen.append(read_count(tmp_path).done)
        return found

    monkeypatch.setattr(servers, "answer", one_by_one)
    evaluation(client, tmp_path, A)[0].ask()
    # Two of six are there; four more come in batches of three and one.
    seen.clear()
    evaluation(client, tmp_path, A, B, OTHER)[0].ask(batch=3)
    assert seen == [2, 3, 4, 5, 5, 6]
    count = read_count(tmp_path)
    assert (count.done, count.total, count.before, count.over) == (6, 6, 2, True)


@pytest.mark.parametrize("before", [None, OTHER])
def test_where_nothing_comes_at_all_it_is_said(client_of, tmp_path, before):
    client, _ = client_of(lambda *_: None, last_answered=before)
    with pytest.raises(IntegrationError, match="no response"):
        evaluation(client, tmp_path, A, B)[0].ask(batch=10)


def test_a_run_that_trains_records_keeps_and_logs(client_of, tmp_path):
    """a: right and a time-out of the scorer, 1 of 1; b: two wrong ones, 0 of 2; so 1/2, with one unscored."""

    def verdict(source, problem, sample):
        return {("a", 0): "right", ("a", 1): "timeout"}.get((problem, sample), "wrong")

    client, _ = client_of(verdict)
    run, store = evaluation(client, tmp_path, A, B, step=7, folder=answers_of_step(attempt=1, step=7))
    entered = []
    run.ask(around=lambda: nullcontext(entered.append("a batch")))
    assert entered == ["a batch"]
    found = run.record(tmp_path, attempt=1, trained=True)
    assert validation_metrics(run.plan, found) == {
        "val-core/toy/acc/mean@2": 0.5,
        "val-aux/toy/unscored": 1,
        "val-aux/toy/truncated": 0.0,
        "val-aux/toy/stopped_at_text": 0.0,
        "val-aux/toy/response_tokens": 2.0,
    }
    assert prompts_of(run.plan, found) == ["a?", "a?", "b?", "b?"]
    assert (found["status"] == "right").tolist() == [True, False, False, False]
    info = {"recipe": "fpa_offline", "evaluation": {"problem_sets": {"toy": "x"}, "samples": 2}, "fingerprints": {}}
    (tmp_path / "run.json").write_text(json.dumps({**info, "hardware": {"devices": 1}, "dataset": None}))
    (point,) = read_run(tmp_path).points
    assert (point.step, point.problems, point.unscored) == (7, {"a": (1, 1), "b": (0, 2)}, 1)
    kept = store.read()
    assert outcomes(kept) == point.problems
    assert kept["finish_reason"].tolist() == ["stop"] * 4
    # What an older version wrote as one number for all sets is read as that of each.
    assert read_run(tmp_path).info["evaluation"]["samples"] == {"toy": 2}


def test_of_a_session_with_several_outputs_the_last_counts():
    assert last_outputs(["u_0_0", "u_0_10", "u_0_9", "u_1_0"]) == ["u_0_10", "u_1_0"]


def test_the_scorer_gets_what_the_file_says_of_a_problem():
    problem = Problem("a", A.messages, "1", "toy", extra_info={"unit": "cm", "index": 3})
    prompts = prompt_batch(["u"], [problem], SamplingRequest(n=3, validate=True, seeded=True, step=7), [5])
    assert prompts["extra_info"][0] == {"unit": "cm", "index": 3, "problem_id": "a"}
    assert (prompts["__rollout_n__"][0], prompts["first_sample"][0]) == (3, 5)
    assert prompts["agent_name"][0] == SEEDED_SINGLE_TURN
    assert prompts["validate"] is True
    assert prompts["global_steps"] == 7
    assert "agent_name" not in prompt_batch(["u"], [problem], SamplingRequest(n=1), [0])
