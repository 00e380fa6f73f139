from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from fpa_verl import cli
from fpa_verl.data_check.problem_files import Against, check_problem_file
from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import benchmarks
from fpa_verl.evaluation.benchmarks import BENCHMARKS
from fpa_verl.evaluation.problem_sets import read_problem_set
from fpa_verl.rollouts.problems import read_problems, write_problems
from fpa_verl.rollouts.prompts import BOXED


def write(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def published_rows(name: str) -> list[dict]:
    """Two rows as each data set has them."""
    entry = BENCHMARKS[name]
    answers = {"gsm8k": ["1 + 1 = 2\n#### 2", "#### 1,080"], "olympiadbench": [["2"], ["1", "3"]]}.get(
        name, ["2", "3.0"]
    )
    ids = {"unique_id": "test/algebra/{}.json", "original_split": "train", "problem_id": "{}", "id": "16{}"}
    return [
        {
            entry.problem: f"What is {i}?",
            entry.answer: answers[i],
            **{column: value.format(i) for column, value in ids.items()},
            "problem_idx": i + 1,
        }
        for i in range(2)
    ]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def copy_of(name: str, folder) -> str:
    """A folder as the hub would hold it."""
    entry = BENCHMARKS[name]
    write(folder / "problems.jsonl", published_rows(name))
    config = entry.config or "default"
    files = f"  data_files:\n  - split: {entry.split}\n    path: problems.jsonl\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: {config}\n{files}---\n")
    return str(folder)


IDS = {
    "gsm8k": "gsm8k/test/0001",
    "math500": "math500/test/algebra/1.json",
    "math_perturb_simple": "math_perturb_simple/train/1",
    "math_perturb_hard": "math_perturb_hard/train/1",
    "gaokao2023en": "gaokao2023en/001",
    "olympiadbench": "olympiadbench/161",
    "amc23": "amc23/01",
    "amc24": "amc24/01",
    "aime24": "aime24/01",
    "aime25": "aime25/01",
    "aime26": "aime26/2",
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_by_name_through_datasets(name, tmp_path):
    found = read_problem_set(name, dataset=copy_of(name, tmp_path / "copy"))
    problem = found.problems[1]
    truth = {"gsm8k": "1,080", "olympiadbench": "1, 3"}.get(name, "3")
    assert (problem.problem_id, problem.ground_truth, problem.data_source) == (IDS[name], truth, name)
    assert problem.chat == [{"role": "user", "content": BOXED.of("What is 1?")}]
    assert found.notes() == [f"2 problems, where {BENCHMARKS[name].problems:,} were expected"]


def test_a_benchmark_that_is_published_as_a_file(tmp_path, monkeypatch):
    """As MATH-Perturb is: the "json" loader and an address."""
    address = write(tmp_path / "published.jsonl", published_rows("math_perturb_hard"))
    entry = replace(BENCHMARKS["math_perturb_hard"], data_files=address)
    monkeypatch.setitem(benchmarks.BENCHMARKS, "math_perturb_hard", entry)
    found = read_problem_set("math_perturb_hard")
    assert [p.problem_id for p in found.problems] == ["math_perturb_hard/train/0", "math_perturb_hard/train/1"]


def test_columns_that_are_not_there(tmp_path):
    write(tmp_path / "copy" / "train.jsonl", [{"question": "1?", "answer": 1}])
    with pytest.raises(DatasetError, match=r"no column 'problem_idx'.* it has question, answer"):
        read_problem_set("aime26", dataset=str(tmp_path / "copy"))


def test_no_such_copy_says_what_to_do(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"aime26 cannot be loaded from .*give a local file .* \(--dataset FOLDER\)"):
        read_problem_set("aime26", dataset=str(tmp_path / "empty"))


def test_neither_a_file_nor_a_name():
    with pytest.raises(DatasetError, match="no file at math5, and no benchmark of that name: there are gsm8k, math500"):
        read_problem_set("math5")


def test_what_is_left_out_and_what_occurs_twice(tmp_path):
    records = [
        {"problem": "What is $x$?", "answer": "1", "id": "a"},
        {"problem": "what is x", "answer": "1", "id": "b"},
        {"problem": "What is $y$?", "answer": " ", "id": "c"},
        {"problem": "What is $z$?", "answer": None, "id": "d"},
        {"problem": "What is $w$?", "answer": 0},
    ]
    found = read_problem_set(write(tmp_path / "sums.jsonl", records))
    # The last has no id: its file and its line.
    assert [p.problem_id for p in found.problems] == ["a", "b", "sums/5"]
    assert [p.ground_truth for p in found.problems] == ["1", "1", "0"]
    assert found.notes() == ["left out, without an answer: c, d", "the same text: a, b"]


def test_ids_that_are_not_unique_are_refused(tmp_path):
    source = write(tmp_path / "p.jsonl", [{"problem": str(i), "answer": "1", "id": "a"} for i in range(3)])
    with pytest.raises(DatasetError, match="3 problems share the id 'a'"):
        read_problem_set(source)


def test_a_set_without_answers_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no problem with an answer"):
        read_problem_set(write(tmp_path / "p.jsonl", [{"problem": "1?", "answer": ""}]))


def test_texts_are_those_without_the_instruction(tmp_path):
    source = write(tmp_path / "p.jsonl", [{"problem": "What is 1?", "answer": "1", "id": "a"}])
    found = read_problem_set(source)
    write_problems(tmp_path / "p.parquet", found.problems, "train")
    again = read_problem_set(str(tmp_path / "p.parquet"))
    assert found.texts() == again.texts() == {"a": "What is 1?"}


def run(*arguments: str):
    return CliRunner().invoke(cli.app, ["data", *arguments])


def test_command_problems(tmp_path):
    source = copy_of("math500", tmp_path / "copy")
    out = tmp_path / "math500.parquet"
    done = run("problems", "math500", "--dataset", source, "--out", str(out), "--limit", "1")
    assert done.exit_code == 0, done.output
    # Lines wrap at the width of a terminal.
    assert "math500.parquet:1problems" in "".join(done.output.split())
    assert "2 problems, where 500 were expected" in done.output.replace("\n", " ")
    (problem,) = read_problems(str(out))
    assert problem.problem_id == "math500/test/algebra/0.json"


def test_command_contamination(tmp_path):
    training = write(tmp_path / "train.jsonl", [{"problem": "Compute $1 + 2 + 3 + 4$ now.", "answer": "10", "id": "t"}])
    clean = write(tmp_path / "clean.jsonl", [{"problem": "How many sheep?", "answer": "1", "id": "c"}])
    seen = write(tmp_path / "seen.jsonl", [{"problem": "compute 1+2+3+4 now", "answer": "10", "id": "s"}])
    done = run("contamination", training, clean)
    assert (done.exit_code, "clean.jsonl" in done.output) == (0, True)
    done = run("contamination", training, clean, seen)
    assert done.exit_code == 1
    rows = [line.split() for line in done.output.splitlines()]
    assert ["s", "t", "same"] in rows
    assert ["clean.jsonl", "1", "0", "0"] in rows
    assert ["seen.jsonl", "1", "1", "0"] in rows


def test_command_contamination_shows_what_is_near_and_does_not_fail(tmp_path):
    text = "A train of {} cars goes 60 km in an hour. How long does it take for the 90 km from here to Rome?"
    training = write(tmp_path / "train.jsonl", [{"problem": text.format(7), "answer": "1.5", "id": "t"}])
    near = write(tmp_path / "near.jsonl", [{"problem": text.format(8), "answer": "1.5", "id": "n"}])
    done = run("contamination", training, near)
    assert done.exit_code == 0, done.output
    assert ["near.jsonl", "1", "0", "1"] in [line.split() for line in done.output.splitlines()]


def test_command_contamination_says_in_a_note_that_problems_are_of_a_template(tmp_path):
    def rows(first, last):
        text = (
            "Tom has {} boxes with {} pencils each and gives half of them away. How many pencils are left in the end?"
        )
        return [{"problem": text.format(i, 7 * i + 500), "answer": "1", "id": str(i)} for i in range(first, last)]

    training, evaluation = (
        write(tmp_path / f"{name}.jsonl", rows(*ends)) for name, ends in (("a", (0, 300)), ("b", (300, 420)))
    )
    done = run("contamination", training, evaluation)
    assert done.exit_code == 0, done.output
    assert ["b.jsonl", "120", "0", "0"] in [line.split() for line in done.output.splitlines()]
    assert "note: 120 of b.jsonl's 120 problems are made like many others" in done.output.replace("\n", " ")
    findings = list(check_problem_file(tmp_path / "a.jsonl", Against((evaluation,))))
    assert [one.state for one in findings if one.subject == "contamination"] == ["fine", "note"]
