from __future__ import annotations

import pytest

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import maj_at_k
from fpa_verl.runs.answers import Answer, AnswerStore, outcomes, votes


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


def test_a_damaged_file_is_named(store, tmp_path):
    file = tmp_path / "samples" / "part-00001.parquet"
    file.write_bytes(file.read_bytes().replace(b"wrong", b"right", 1))
    with pytest.raises(DatasetError, match=r"part-00001\.parquet is damaged.*asks for the missing answers"):
        store.read()
