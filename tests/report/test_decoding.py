"""Searched and sampled answers at equal numbers of generated tokens, on answers with known counts."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.files import append_json_line
from fpa_verl.report.comparisons.decoding import _majority_is_right, compare, samples_within
from fpa_verl.runs.answers import Answer, AnswerStore, outcomes
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.names import EVALUATION_KIND
from fpa_verl.runs.record import open_run, record_evaluation
from tests.runs.directories import INFO, make_run

SAMPLED = {"problem_sets": {"toy": "e"}, "temperature": 0.7, "samples": {"toy": 4}}
BEAM = {"name": "beam", "width": 1, "samples": 5, "temperature": 0.6}
SEARCHED = {"problem_sets": {"toy": "e"}, "temperature": 0.6, "samples": {"toy": 1}, "decoding": BEAM}


def answer(problem: str, sample: int, said: str, generated: int, tokens: int = 10) -> Answer:
    status = "right" if said == "3" else "wrong"
    return Answer("toy", problem, sample, said, tokens, said, status, "stop", "3", generated_tokens=generated)


def evaluation(folder, about, answers, seconds=100.0, **changes):
    """What `recipe=evaluate` leaves, on 2 devices."""
    open_run(folder, {**INFO, "kind": EVALUATION_KIND, "evaluation": about, "model": "m", **changes})
    AnswerStore(folder).add(answers)
    record_evaluation(folder, attempt=1, step=0, problems={"toy": outcomes(AnswerStore(folder).read())})
    append_json_line(folder / "ledger.jsonl", {"kind": "attempt", "time": 0, "attempt": 1, "devices": 2})
    step = {"kind": "end", "time": 0, "attempt": 1, "step": 0, "seconds": {"evaluation": seconds}}
    append_json_line(folder / "ledger.jsonl", step)
    return folder


@pytest.fixture
def runs(tmp_path):
    """A search right in two problems of two, for 35 tokens each; four samples each, of which three are bought."""
    evaluation(tmp_path / "beam", SEARCHED, [answer(p, 0, "3", 35) for p in "ab"])
    # a: 4 and 4 outvote the first; b: 3 and 3 outvote; the fourth samples would turn both round, and are not paid for.
    said = {"a": ("3", "4", "4", "3"), "b": ("4", "3", "3", "4")}
    samples = [answer(p, k, text, 10) for p, texts in said.items() for k, text in enumerate(texts)]
    evaluation(tmp_path / "sampled", SAMPLED, samples)
    return find_runs([tmp_path], with_evaluations=True)


def test_a_search_stands_beside_as_many_samples_as_its_tokens_buy(runs):
    beam, sampled, majority = compare(runs).decoded
    assert (beam.how, beam.accuracy.mean, beam.tokens) == ("beam, B1 1, B2 5", 1.0, 35)
    assert (sampled.how, sampled.accuracy.mean, sampled.tokens) == ("one sample, T = 0.7", 0.5, 10)
    assert (majority.how, majority.accuracy.mean) == ("majority of 3.0 samples, tokens of beam", 0.5)
    assert majority.tokens == 30
    # 100 s on 2 devices: for 70 tokens of the search, for 80 of the samples.
    seconds = [one.device_seconds for one in (beam, sampled, majority)]
    assert seconds == pytest.approx([200 * 35 / 70, 200 * 10 / 80, 200 * 30 / 80])


def test_a_majority_of_fewer_samples_than_a_search_would_buy_is_said_to_be(runs, tmp_path):
    assert not any("fewer than the search" in note for note in compare(runs).notes())
    # 35 tokens buy three of the four samples; 500 would buy 50.
    evaluation(tmp_path / "large", SEARCHED, [answer(p, 0, "3", 500) for p in "ab"])
    found = compare(find_runs([tmp_path / "large", tmp_path / "sampled"], with_evaluations=True))
    assert [one.short for one in found.decoded] == [0, 0, 2]
    assert any("Of up to 2 problems the samples are fewer" in note for note in found.notes())


def test_the_command_prints_and_writes_it(runs, tmp_path):
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--compare", "decoding"])
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "report" / "decoding.json").read_text())
    assert written["decoding"][0]["decoding"] == "beam, B1 1, B2 5"
    assert (tmp_path / "report" / "decoding.png").exists()


def test_what_asked_other_problems_does_not_stand_beside(runs, tmp_path):
    evaluation(tmp_path / "other", {**SAMPLED, "problem_sets": {"toy": "x"}}, [answer("a", 0, "3", 10)])
    with pytest.raises(MismatchError, match="problem set toy differs"):
        compare(find_runs([tmp_path], with_evaluations=True))


def test_without_an_evaluation_there_is_nothing_to_compare(tmp_path):
    make_run(tmp_path / "a", [1, 2])
    with pytest.raises(DatasetError, match=r"no evaluation among the runs: .*evaluation.decoding=beam"):
        compare(find_runs([tmp_path], with_evaluations=True))


def test_samples_that_a_budget_buys():
    assert [samples_within([3, 4, 5], budget) for budget in (2, 3, 6, 7, 11, 12, 99)] == [0, 1, 1, 2, 2, 3, 3]


@given(st.lists(st.sampled_from([None, "1", "2", "3"])))
def test_a_majority_is_right_where_no_other_answer_outvotes_the_right_one(answers):
    counted = Counter(answer for answer in answers if answer)
    said = _majority_is_right([(answer, answer == "3") for answer in answers])
    others = max((count for answer, count in counted.items() if answer != "3"), default=0)
    if counted["3"] != others:
        assert said == (counted["3"] > others)
    elif counted["3"]:
        assert said == (next(answer for answer in answers if counted[answer] == others) == "3")
    else:
        assert not said
