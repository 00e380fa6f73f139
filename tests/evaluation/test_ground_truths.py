from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation.ground_truths import Unusable, unusable
from fpa_verl.rollouts.problems import Problem, write_problems

TRUTHS = ["7", "", r"\sin x", r"\frac{1}{", "(1,2)"]
BAD = [Unusable("p1", "", "bad_ground_truth"), Unusable("p3", r"\frac{1}{", "bad_ground_truth")]


def test_from_verl_s_parquet(tmp_path):
    problems = [Problem.from_text(f"p{i}", "What?", truth, "set") for i, truth in enumerate(TRUTHS)]
    write_problems(tmp_path / "problems.parquet", problems, "train")
    assert unusable(tmp_path / "problems.parquet") == (BAD, 5)


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "problems.jsonl"
    rows = [{"id": f"p{i}", "problem": "What?", "answer": truth} for i, truth in enumerate(TRUTHS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_from_json_lines(lines):
    assert unusable(lines) == (BAD, 5)


def test_a_row_without_answer_is_named(tmp_path):
    (tmp_path / "problems.jsonl").write_text('{"problem": "What?"}\n')
    with pytest.raises(DatasetError, match="line 1: keys 'problem' and 'answer'"):
        unusable(tmp_path / "problems.jsonl")


def test_the_command_names_them(lines):
    code = "import sys; from fpa_verl.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "data", "check", str(lines)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 1
    assert "2 of 5 ground truths do not grade themselves right" in " ".join(done.stdout.split())
    assert r"p3: '\\frac{1}{' (bad_ground_truth)" in done.stdout
