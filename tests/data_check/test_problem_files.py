from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.data_check import Against, check_problem_file
from fpa_verl.errors import DatasetError
from fpa_verl.evaluation.problem_sets import read_problem_set
from fpa_verl.rollouts.problems import Problem, write_problems
from fpa_verl.rollouts.prompts import BARE, Prompt

TEXTS = ["What is the sum of two and two?", "What is the product of five and six?"]

ANSWER = Prompt("{problem}\nAnswer:")


@pytest.fixture
def training(tmp_path):
    problems = [Problem.from_text(f"p{i}", text + "\nAnswer:", str(i), "toy") for i, text in enumerate(TEXTS)]
    write_problems(tmp_path / "train.parquet", problems, "train")
    return tmp_path / "train.parquet"


@pytest.fixture
def test_set(tmp_path):
    path = tmp_path / "test.jsonl"
    lines = [{"id": f"e{i}", "problem": text, "answer": "1"} for i, text in enumerate([TEXTS[0].upper(), "Other?"])]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(*arguments) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, " ".join((done.output + str(done.exception or "")).split())


def test_a_sound_file(training):
    (finding,) = check_problem_file(training, Against(prompt=ANSWER))
    assert (finding.state, finding.detail) == ("fine", "all 2 grade themselves right")


def test_a_repeated_text_is_a_note(tmp_path):
    problems = [Problem.from_text(f"p{i}", "Find x.", "1", "toy") for i in range(2)]
    write_problems(tmp_path / "p.parquet", problems, "train")
    findings = list(check_problem_file(tmp_path / "p.parquet", Against(prompt=BARE)))
    assert [finding.state for finding in findings] == ["fine", "note"]
    assert findings[1].detail == "the same text: p0, p1"


def test_the_first_five_of_a_kind_and_the_number_of_the_others(tmp_path):
    """Eight ground truths that no answer is scored against; seven texts twice, and one nine times."""
    texts = [f"Find {name}." for name in "abcdefg" for _ in range(2)] + ["Find z."] * 9 + ["Find u and v."]
    truths = [r"\frac{"] * 8 + ["1"] * 16
    problems = [
        Problem.from_text(f"p{i}", text, truth, "toy")
        for i, (text, truth) in enumerate(zip(texts, truths, strict=True))
    ]
    write_problems(tmp_path / "p.parquet", problems, "train")
    wrong, notes = (
        [one.detail for one in check_problem_file(tmp_path / "p.parquet", Against(prompt=BARE)) if one.state == state]
        for state in ("wrong", "note")
    )
    assert wrong[0] == "8 of 24 ground truths do not grade themselves right:"
    assert [detail.split(":")[0] for detail in wrong[1:6]] == ["p0", "p1", "p2", "p3", "p4"]
    assert wrong[6:] == ["and 3 more like these", "correct them, or leave those problems out"]
    assert notes == [*(f"the same text: p{2 * i}, p{2 * i + 1}" for i in range(5)), "and 3 more like these"]


def test_a_text_that_occurs_often_is_named_by_five_of_its_problems(tmp_path):
    write_problems(tmp_path / "p.parquet", [Problem.from_text(f"p{i}", "Find x.", "1", "toy") for i in range(9)], "t")
    findings = list(check_problem_file(tmp_path / "p.parquet", Against(prompt=BARE)))
    assert findings[1].detail == "the same text: p0, p1, p2, p3, p4 and 4 more"
    # `fpa-verl data problems` lists them all.
    assert read_problem_set(str(tmp_path / "p.parquet"), BARE).notes() == [
        "the same text: " + ", ".join(f"p{i}" for i in range(9))
    ]


def test_many_problems_without_an_answer(tmp_path):
    lines = [{"id": f"p{i}", "problem": f"Find {i}.", "answer": "1" if i > 6 else None} for i in range(9)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    details = [one.detail for one in check_problem_file(tmp_path / "p.jsonl", Against(prompt=BARE))]
    assert details[-1] == "left out, without an answer: p0, p1, p2, p3, p4 and 2 more"


def test_evaluation_problems_among_its_own(training, test_set):
    code, output = run("data", "check", training, "--against", test_set, "--prompt", "{problem}\nAnswer:")
    assert code == 1
    assert "test.jsonl: problem 'e0' is training problem 'p0': leave it out of one of the two" in output


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "p.parquet").write_text("no parquet")
    code, output = run("data", "check", tmp_path / "p.parquet")
    assert code == 1
    assert "damaged, or not a parquet file" in output


def test_contamination_refuses_a_prompt_that_no_problem_has(training, test_set):
    code, output = run("data", "contamination", training, test_set, "--prompt", "{problem}\nAnswr:")
    assert code == 1
    assert "reads '{problem}\\nAnswr:': --prompt NAME or TEXT says how they do" in output
    # The right one: e0 is p0 in capitals.
    code, output = run("data", "contamination", training, test_set, "--prompt", "{problem}\nAnswer:")
    assert code == 1
    assert "test.jsonl 2 1 0" in output


def test_contamination_says_where_no_prompt_that_is_known_is_there(training, test_set):
    _, output = run("data", "contamination", training, test_set)
    assert "note: no problem of" in output
    assert "reads '{problem}\\nPlease reason step by step" in output


def test_with_nothing_around_a_problem_there_is_nothing_to_say(training, test_set):
    _, output = run("data", "contamination", training, test_set, "--prompt", "{problem}")
    assert "note:" not in output


def test_unreadable_evaluation_problems(training, tmp_path):
    with pytest.raises(DatasetError, match="no file at"):
        list(check_problem_file(training, Against((str(tmp_path / "none"),), prompt=ANSWER)))
