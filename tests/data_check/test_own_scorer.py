"""A dataset that a function of one's own scored is checked with that function, or not scored anew."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.data_check import check_dataset
from fpa_verl.rollouts.manifest import read_manifest
from tests.rollouts.conftest import change_manifest

LAST_LINE = """
def grade(data_source, solution_str, ground_truth, extra_info=None):
    return float(solution_str.rpartition("#### ")[2] == ground_truth)
"""


def run(*arguments: str):
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "400"})
    return done, " ".join(f"{done.output} {done.exception or ''}".split())


def import_(folder, base_model, *options: str):
    """24 answers to six problems, half of them right, in a form that our own scorer does not look for."""
    records = [
        {"problem": f"{i}*7", "response": f"#### {7 * i + slip}", "ground_truth": f"{7 * i}", "score": 0.5 - slip}
        for i in range(6)
        for slip in (0, 1, 0, 1)
    ]
    (folder / "text.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    text, out = str(folder / "text.jsonl"), str(folder / "d")
    return run("data", "import", text, "--model", str(base_model), "--out", out, "--prompt", "{problem}", *options)


@pytest.fixture
def dataset(tmp_path, base_model):
    (tmp_path / "mine.py").write_text(LAST_LINE)
    done, said = import_(tmp_path, base_model, "--reward", f"{tmp_path}/mine.py:grade")
    assert done.exit_code == 0, said
    return tmp_path / "d"


def scores(folder, **options):
    return [(found.state, found.detail) for found in check_dataset(folder, **options) if found.subject == "scores"]


def test_it_is_scored_anew_by_its_own_function(dataset):
    assert read_manifest(dataset).counts["status_right"] == 12
    assert scores(dataset) == [("fine", "24 trajectories scored anew, with the same result")]
    done, _ = run("data", "check", str(dataset))
    assert done.exit_code == 0


def test_a_function_that_changed(dataset):
    (dataset.parent / "mine.py").write_text(LAST_LINE.replace("==", "!="))
    (note, *wrong) = scores(dataset)
    assert note[0] == "note"
    assert note[1].startswith("scored by mine.py:grade/")
    assert {state for state, _ in wrong} == {"wrong"}


def test_a_function_that_is_gone(dataset):
    (dataset.parent / "mine.py").rename(dataset.parent / "moved.py")
    ((state, detail),) = scores(dataset)
    assert state == "note"
    assert "mine.py: give a Python file, or pkg://MODULE): give the function, --reward FILE.py:FUNCTION" in detail
    done, said = run("data", "check", str(dataset), "--reward", f"{dataset.parent}/moved.py:grade")
    assert done.exit_code == 0
    assert "24 trajectories scored anew, with the same result" in said


ASSERTS = """
def grade(data_source, solution_str, ground_truth, extra_info=None):
    assert solution_str.endswith(f" {ground_truth}"), "not " + ground_truth
    return 1.0
"""


def test_trajectories_without_a_verdict_say_why(tmp_path, base_model):
    (tmp_path / "mine.py").write_text(ASSERTS)
    done, said = import_(tmp_path, base_model, "--reward", f"{tmp_path}/mine.py:grade")
    assert done.exit_code == 0, said
    assert f"the scorer grade in {tmp_path}/mine.py raised AssertionError: not 0 for a response of" in said
    assert "; and 11 times more" in said
    found = list(check_dataset(tmp_path / "d"))
    (note,) = (one.detail for one in found if one.subject == "scores" and one.state == "note")
    assert note.startswith(
        "12 of 24 have no verdict and do not train (12 error); scored anew, 2 of 12: the scorer grade"
    )
    assert "raised AssertionError: not" in note
    assert (
        "nothing trains: no group holds both right and wrong trajectories (5 all right, 0 all wrong, 0 unscored)"
        in [one.detail for one in found if one.state == "wrong"]
    )
    done, _ = run("data", "check", str(tmp_path / "d"))
    assert done.exit_code == 1


def test_most_trajectories_without_a_verdict_are_a_fault(tmp_path, base_model):
    (tmp_path / "mine.py").write_text(LAST_LINE.replace("    return", "    assert ground_truth == '0'\n    return"))
    import_(tmp_path, base_model, "--reward", f"{tmp_path}/mine.py:grade")
    (wrong,) = (one.detail for one in check_dataset(tmp_path / "d") if (one.subject, one.state) == ("scores", "wrong"))
    assert wrong.startswith("20 of 24 have no verdict and do not train (20 error); scored anew, 20 of 20: the scorer")


ASKS_FOR_THE_PROBLEM = """
def grade(data_source, solution_str, ground_truth, extra_info):
    assert extra_info["problem_id"]
    return float(solution_str.rpartition("#### ")[2] == ground_truth)
"""


def test_a_function_that_asks_what_is_known_of_the_problem(tmp_path, base_model):
    (tmp_path / "mine.py").write_text(ASKS_FOR_THE_PROBLEM)
    import_(tmp_path, base_model, "--reward", f"{tmp_path}/mine.py:grade")
    assert scores(tmp_path / "d") == [("fine", "24 trajectories scored anew, with the same result")]


@pytest.mark.parametrize(
    "options", [("--max-response-tokens", "0"), ("--max-response-tokens", "-5"), ("--validation-fraction", "1.5")]
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, base_model, options):
    done, said = import_(tmp_path, base_model, "--keep-scores", "--threshold", "0.2", *options)
    assert done.exit_code == 2
    assert options[0] in said


ARGUMENTS = """
import sys

def grade(data_source, solution_str, ground_truth, extra_info, marks=None):
    if marks is None:
        sys.exit("no marks")
    return float(solution_str.rpartition(marks[data_source])[2] == ground_truth)
"""


def test_a_function_with_arguments(tmp_path, base_model):
    (tmp_path / "mine.py").write_text(ARGUMENTS)
    named = ("--reward", f"{tmp_path}/mine.py:grade")
    done, said = import_(tmp_path, base_model, *named)
    assert done.exit_code == 1
    assert "raised SystemExit: no marks for a response of data_source 'text' that ends in '#### 0'" in said
    assert said.endswith("has what a scorer returns")
    marks = ("--reward-args", '{"marks": {"sums": "#### "}}')
    done, said = import_(tmp_path, base_model, *named, *marks)
    assert said.endswith("--source NAME gives records another data_source")
    done, said = import_(tmp_path, base_model, *named, *marks, "--source", "sums")
    assert done.exit_code == 0, said
    assert read_manifest(tmp_path / "d").counts["status_right"] == 12
    # The manifest knows them.
    assert scores(tmp_path / "d") == [("fine", "24 trajectories scored anew, with the same result")]


def test_a_threshold_alone_belongs_to_no_function(dataset):
    done, said = run("data", "check", str(dataset), "--threshold", "0.5")
    assert done.exit_code == 1
    assert "--threshold belongs to a function: give --reward FILE.py:FUNCTION too" in said


def test_of_an_older_manifest_the_file_is_not_known(dataset):
    change_manifest(dataset, lambda manifest: manifest["origin"].pop("scorer"))
    ((state, detail),) = scores(dataset)
    assert (state, "whose file is not recorded" in detail) == ("note", True)


def test_scores_that_were_kept(tmp_path, base_model):
    done, said = import_(tmp_path, base_model, "--keep-scores", "--threshold", "0.2")
    assert done.exit_code == 0, said
    assert read_manifest(tmp_path / "d").counts["status_right"] == 12
    assert scores(tmp_path / "d") == [
        ("note", "nothing was scored anew: the scores are those that the imported records had")
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "24 of 24 responses hold no answer that math_answer finds"),
        (("--keep-scores",), "returned a score of 0.5, and it is not known from which score"),
        (("--keep-scores", "--reward", "x.py:f"), "either the records' scores are kept, or a function scores anew"),
        (("--threshold", "0.5"), "give --reward FILE.py:FUNCTION or --keep-scores too"),
        (("--reward", "nowhere.py:f"), "no scorer at"),
        (("--reward-args", "{}"), "--reward-args belongs to a function: give --reward FILE.py:FUNCTION too"),
        (("--reward", "nowhere.py:f", "--reward-args", "3"), "--reward-args '3' is no JSON object"),
        (("--steps", "1"), "has no 'step', which --steps chooses by"),
    ],
)
def test_what_is_refused(tmp_path, base_model, options, message):
    done, said = import_(tmp_path, base_model, *options)
    assert done.exit_code == 1
    assert message in said
    assert not (tmp_path / "d").exists()


def test_ground_truths_are_those_of_the_function(tmp_path):
    problems = tmp_path / "p.jsonl"
    problems.write_text(json.dumps({"problem": "Red or blue?", "answer": r"\frac{"}) + "\n")
    (tmp_path / "mine.py").write_text(LAST_LINE)
    assert run("data", "check", str(problems))[0].exit_code == 1
    assert run("data", "check", str(problems), "--reward", f"{tmp_path}/mine.py:grade")[0].exit_code == 0
