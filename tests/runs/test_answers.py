from __future__ import annotations

import copy

import pytest

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import maj_at_k
from fpa_verl.runs.accuracy_table import accuracy_table
from fpa_verl.runs.answers import Answer, AnswerStore, outcomes, votes
from fpa_verl.runs.record import open_run, record_evaluation
from tests.runs.directories import INFO


def sample(problem_id: str, number: int, status: str, extracted: str = "") -> Answer:
    return Answer("set", problem_id, number, rf"\boxed{{{extracted}}}", 5, extracted, status, "stop", "7")


SAMPLES = [
    sample("b", 0, "right", "7"),
    sample("a", 1, "no_answer"),
    sample("a", 0, "wrong", "8"),
    sample("a", 2, "right", "7"),
    sample("b", 1, "timeout", "9^9^9"),
]


@pytest.fixture
def store(tmp_path) -> AnswerStore:
    store = AnswerStore(tmp_path)
    store.add(SAMPLES[:2])
    store.add(SAMPLES[2:])
    return store


def test_answers_come_back_in_order_and_say_what_is_done(store):
    assert list(store.read()["sample"]) == [0, 1, 2, 0, 1]
    assert store.done() == {("set", "a", 0), ("set", "a", 1), ("set", "a", 2), ("set", "b", 0), ("set", "b", 1)}


def test_an_evaluation_that_has_not_begun_has_no_answers(tmp_path):
    assert AnswerStore(tmp_path).done() == set()


def test_what_could_not_be_scored_counts_nowhere(store):
    assert outcomes(store.read()) == {"a": (1, 3), "b": (1, 1)}


def test_a_response_without_an_answer_does_not_vote(store):
    found = votes(store.read())
    assert found == {"a": [("8", False), (None, False), ("7", True)], "b": [("7", True)]}
    # Spellings of the right answer are one vote, and so are those of a wrong one.
    spelled = [sample("c", i, "right", answer) for i, answer in enumerate([r"\frac{14}{2}", "7.0"])]
    spelled += [sample("c", 2, "wrong", r"\dfrac 12"), sample("c", 3, "wrong", r"\frac12")]
    store.add(spelled)
    assert votes(store.read())["c"] == [("7", True)] * 2 + [(r"\frac{1}{2}", False)] * 2
    # Spaces, sizes, signs and synonyms say nothing; what cannot be read votes with itself.
    alike = [r"\left( x + 1 \right) \le 2", "$(x+1)\\leq 2$", r"(x + 1)\leqslant 2."]
    store.add(sample("d", i, "wrong", answer) for i, answer in enumerate([*alike, "(x+1", r"\frac{", r"\frac{ "]))
    assert votes(store.read())["d"] == [(r"(x+1)\leq2", False)] * 3 + [("(x+1", False)] + [(r"\frac{", False)] * 2
    # Of "a", 7 and 8 share the first place; "b" has too few.
    assert maj_at_k(found, 3).mean == 0.5


def test_a_scorer_that_judges_the_form_finds_one_answer_right_and_wrong(tmp_path):
    """The ground truth is 7: what is spelled as it, or as an answer that was right, is the same answer."""
    store = AnswerStore(tmp_path)
    store.add([sample("a", 0, "right", "7"), sample("a", 1, "wrong", "7"), sample("a", 2, "wrong", "8")])
    # 7.0 is not spelled as 7, and was right once.
    store.add([sample("b", 0, "right", "7.0"), sample("b", 1, "wrong", "7.0"), sample("b", 2, "wrong", "$7$")])
    # Never right: 7 is the ground truth all the same.
    store.add(
        [sample("c", 0, "wrong", r"\left(7\right"), sample("c", 1, "wrong", " 7 "), sample("c", 2, "wrong", "7.")]
    )
    found = votes(store.read())
    assert found["a"] == [("7", True), ("7", False), ("8", False)]
    assert found["b"] == [("7", True), ("7", False), ("7", False)]
    assert found["c"][1:] == [("7", False)] * 2
    # a: 7 leads by 2 to 1 and is half right; b: a third; c: never.
    assert maj_at_k(found, 3).mean == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)


STRANGE = [
    "",
    " ",
    None,
    "\\",
    r"\frac{",
    "{" * 5000,
    "7" * 5000,
    "\0",
    "\ud800",
    "\u2028",
    r"\begin{cases}",
    "$$",
    "[/red]",
]


@pytest.mark.parametrize("status", ["right", "wrong", "no_answer", "timeout", "correct", "", None])
def test_whatever_was_answered_the_closing_table_stands(tmp_path, status):
    """The second problem is answered as usual, so that there is something to show."""
    _evaluation(tmp_path, {"a": [("right", "7"), *((status, text) for text in STRANGE)], "b": [("right", "7")] * 14})
    (row,) = accuracy_table(tmp_path, "m").rows
    assert row[:3] == ["set", "2", "14"]
    # b is always right; a at least once in 14.
    assert row[5].split()[0] == "100.0"


def _evaluation(folder, answered):
    """What `recipe=evaluate` leaves of problems that were answered alike often: (status, extracted) of each answer."""
    store, (k, *_) = AnswerStore(folder), map(len, answered.values())
    store.add(sample(name, i, status, text) for name, all_ in answered.items() for i, (status, text) in enumerate(all_))
    open_run(folder, {**copy.deepcopy(INFO), "kind": "evaluation", "evaluation": {"samples": {"set": k}}})
    record_evaluation(
        folder, attempt=1, step=0, problems={"set": outcomes(store.read())}, asked_for={"set": k * len(answered)}
    )


@pytest.mark.parametrize(
    ("answered", "cells"),
    [
        # pass@2: 1. The answer 7 is half right.
        ([("right", "7"), ("wrong", "7")], ["100.0", "50.0"]),
        # The scorer does not say what was wrong: whether two wrong answers are alike is not known.
        ([("right", ""), ("wrong", "")], ["100.0", "-"]),
        ([("wrong", None), ("wrong", None)], ["0.0", "-"]),
        # Nothing was wrong, or nothing was answered: nothing to know.
        ([("right", ""), ("right", None)], ["100.0", "100.0"]),
        ([("right", "7"), ("no_answer", "")], ["100.0", "100.0"]),
        # One was not scored: too few for k = 2.
        ([("right", "7"), ("timeout", "7")], ["- (of 0)", "- (of 0)"]),
        ([("error", ""), ("bad_ground_truth", "")], ["-", "-"]),
    ],
)
def test_pass_at_k_and_maj_at_k_of_the_closing_table(tmp_path, answered, cells):
    _evaluation(tmp_path, {"a": answered})
    (row,) = accuracy_table(tmp_path, "m").rows
    assert row[5:7] == cells


def test_a_damaged_file_is_named(store, tmp_path):
    file = tmp_path / "samples" / "part-00001.parquet"
    file.write_bytes(file.read_bytes().replace(b"wrong", b"right", 1))
    with pytest.raises(DatasetError, match=r"part-00001\.parquet is damaged.*asks for the missing answers"):
        store.read()
