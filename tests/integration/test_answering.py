"""An evaluation's answers: which are asked for, what becomes of those that do not come, and what is logged.

verl's own replay buffer and trainer hooks; the rollout servers alone are played.
"""

from __future__ import annotations

import json
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.servers.client import Question, _last_outputs, _prompts
from fpa_verl.integration.servers.evaluation import Answering, Answers
from fpa_verl.integration.trainers.validating import Validates
from fpa_verl.rollouts.problems import Problem
from fpa_verl.runs.answers import AnswerStore, outcomes
from fpa_verl.runs.names import answers_of_step
from fpa_verl.runs.run import read_run

A, B = (Problem.from_text(name, f"{name}?", "1", "toy") for name in ("a", "b"))
OTHER = Problem.from_text("a", "another a?", "1", "other")


class Evaluates(Answering):
    """Nothing but what both kinds of trainer share."""

    def on_sample_end(self):
        """Of verl's loop."""

    def on_step_end(self):
        """Of verl's loop."""


class Queue:
    """TransferQueue's side of one trainer: keys and fields, and an error where verl's has one."""

    def __init__(self):
        self.fields = {}

    def kv_batch_get(self, *, keys, partition_id, select_fields):
        if not keys:
            raise ValueError("Received an empty list as keys.")
        found = {name: [self.fields[key][name] for key in keys] for name in select_fields}
        return found

    def kv_batch_put(self, **_):
        """Tags of prompts, which only the real replay buffer reads."""

    def kv_clear(self, *, keys, partition_id):
        for key in keys:
            self.fields.pop(key, None)


class Played:
    """Servers that answer as told: problem and sample to a status, or to nothing."""

    def __init__(self, queue, verdict):
        self.queue, self.verdict = queue, verdict
        self.asked = []

    def generate_sequences(self, prompts):
        names = ("uid", "index", "data_source", "first_sample", "__rollout_n__")
        for uid, problem, source, first, n in zip(*(list(prompts[name]) for name in names), strict=True):
            for session in range(n):
                self.asked.append((source, problem, first + session))
                if status := self.verdict(source, problem, first + session):
                    extra = {"reward_extra_info": {"status": status, "extracted": "1"}}
                    tokens = torch.tensor([5, 2])
                    self.queue.fields[f"{uid}_{session}_0"] = {
                        "prompts": tokens,
                        "responses": tokens,
                        "rollout_log_probs": torch.zeros(2),
                        "rm_scores": torch.tensor([0.0, float(status == "right")]),
                        "extra_fields": extra,
                    }

    def sample(self, *, global_steps, partition_id, batch_size):
        # In a validation verl hands over what there is, be it nothing.
        return SimpleNamespace(keys=list(self.queue.fields), partition_id=partition_id), None


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """A trainer's evaluation on played servers; `of(verdict, base)` makes it."""

    def of(verdict, base=Evaluates):
        queue = Queue()
        monkeypatch.setattr(asking, "tq", queue)
        servers = Played(queue, verdict)
        made = object.__new__(base)
        made.__dict__.update(
            run_dir=tmp_path,
            ledger=SimpleNamespace(attempt=1),
            config=OmegaConf.create({"evaluation": {"seeded": False}}),
            tokenizer=SimpleNamespace(decode=lambda ids, **_: "text"),
            stop_ids={2},
            global_steps=7,
            agent_loop_manager=servers,
            replay_buffer=servers,
            _training=True,
        )
        return made, servers

    return of


def answers(tmp_path, *problems, samples=2):
    return Answers(list(problems), defaultdict(lambda: samples), AnswerStore(tmp_path))


def test_every_answer_is_asked_for_once_and_kept(trainer, tmp_path):
    asks, servers = trainer(lambda source, problem, sample: "right" if problem == "a" else "wrong")
    wanted = answers(tmp_path, A, B, OTHER)
    assert asks.ask_for(wanted, batch=4) == []
    sets = (("toy", "a"), ("toy", "b"), ("other", "a"))
    everything = [(source, problem, sample) for source, problem in sets for sample in range(2)]
    assert servers.asked == everything
    kept = wanted.store.read()
    assert sorted(zip(kept["data_source"], kept["problem_id"], kept["sample"], strict=True)) == sorted(everything)
    # 4 and 2 at a time.
    assert len(list((tmp_path / "samples").glob("*.parquet"))) == 2
    asks.ask_for(wanted, batch=4)
    assert len(servers.asked) == 6, "nothing is missing any more"


def test_an_answer_that_never_comes_is_tried_again_and_left_out(trainer, tmp_path):
    asks, servers = trainer(lambda source, problem, sample: None if (problem, sample) == ("b", 1) else "right")
    wanted = answers(tmp_path, A, B)
    left = asks.ask_for(wanted, batch=10)
    assert [(task.problem.problem_id, task.sample) for task in left] == [("b", 1)]
    # Once with the others and once alone; then a problem that was answered shows that servers are alive.
    assert servers.asked[4:] == [("toy", "b", 1), ("toy", "a", 0)]
    assert outcomes(wanted.store.read()) == {"a": (2, 2), "b": (1, 1)}


def test_where_nothing_comes_at_all_it_is_said(trainer, tmp_path):
    asks, _ = trainer(lambda *_: None)
    with pytest.raises(IntegrationError, match="no response"):
        asks.ask_for(answers(tmp_path, A, B), batch=10)


def test_a_run_that_trains_records_keeps_and_logs(trainer, tmp_path):
    """a: right and a time-out of the scorer, 1 of 1; b: two wrong ones, 0 of 2; so 1/2, with one unscored."""

    def verdict(source, problem, sample):
        return {("a", 0): "right", ("a", 1): "timeout"}.get((problem, sample), "wrong")

    run, _ = trainer(verdict, base=Validates)
    run._problems, run._samples = [A, B], {"toy": 2}
    shown = []
    run._maybe_log_val_generations = lambda **columns: shown.append(columns)
    logged = run._validate()
    assert logged == {
        "val-core/toy/acc/mean@2": 0.5,
        "val-aux/toy/unscored": 1,
        "val-aux/toy/truncated": 0.0,
        "val-aux/toy/response_tokens": 2.0,
    }
    assert shown[0]["inputs"] == ["a?", "a?", "b?", "b?"]
    assert shown[0]["scores"] == [1.0, 0.0, 0.0, 0.0]
    info = {"recipe": "fpa_offline", "evaluation": {"problem_sets": {"toy": "x"}, "samples": 2}, "fingerprints": {}}
    (tmp_path / "run.json").write_text(json.dumps({**info, "hardware": {"devices": 1}, "dataset": None}))
    (point,) = read_run(tmp_path).points
    assert (point.step, point.problems, point.unscored) == (7, {"a": (1, 1), "b": (0, 2)}, 1)
    kept = AnswerStore(tmp_path, answers_of_step(attempt=1, step=7)).read()
    assert outcomes(kept) == point.problems
    assert kept["finish_reason"].tolist() == ["stop"] * 4
    # What an older version wrote as one number for all sets is read as that of each.
    assert read_run(tmp_path).info["evaluation"]["samples"] == {"toy": 2}


def test_of_a_session_with_several_outputs_the_last_counts():
    assert _last_outputs(["u_0_0", "u_0_10", "u_0_9", "u_1_0"]) == ["u_0_10", "u_1_0"]


def test_the_scorer_gets_what_the_file_says_of_a_problem():
    problem = Problem("a", A.messages, "1", "toy", extra_info={"unit": "cm", "index": 3})
    prompts = _prompts(["u"], [problem], Question(n=3, validate=True, seeded=True), [5], step=7)
    assert prompts["extra_info"][0] == {"unit": "cm", "index": 3, "problem_id": "a"}
    assert (prompts["__rollout_n__"][0], prompts["first_sample"][0]) == (3, 5)
    assert prompts["agent_name"][0] == "seeded_single_turn"
    assert prompts["validate"] is True
    assert "agent_name" not in _prompts(["u"], [problem], Question(n=1), [0], step=0)
