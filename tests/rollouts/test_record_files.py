"""Which files and records a user means."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.rollouts.record_files import record_files


@pytest.fixture
def dumps(tmp_path):
    """1.jsonl to 12.jsonl, as verl writes them, and something else."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    for step in (1, 2, 10, 12):
        records = [{"input": f"{step}/{i}", "step": step} for i in range(2)]
        (folder / f"{step}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "notes.txt").write_text("mine")
    return folder


def steps_of(files):
    return [step for _, step, _ in files.records()]


def test_a_folder_in_the_order_of_its_numbers(dumps):
    files = record_files([dumps])
    assert [file.name for file in files.files] == ["1.jsonl", "2.jsonl", "10.jsonl", "12.jsonl"]
    assert steps_of(files) == [1, 1, 2, 2, 10, 10, 12, 12]
    assert files.source == "dumps"


def test_a_pattern_several_files_and_each_of_them_once(dumps):
    assert [file.name for file in record_files([dumps / "1*.jsonl"]).files] == ["1.jsonl", "10.jsonl", "12.jsonl"]
    both = record_files([dumps / "12.jsonl", dumps / "1.jsonl", dumps / "1.jsonl"])
    assert [file.name for file in both.files] == ["12.jsonl", "1.jsonl"]


@pytest.mark.parametrize(("steps", "taken"), [("2", [2, 2]), ("2-10", [2, 2, 10, 10]), (" 11-99 ", [12, 12])])
def test_steps(dumps, steps, taken):
    assert steps_of(record_files([dumps], steps=steps)) == taken


def test_steps_that_are_not_there(dumps):
    with pytest.raises(DatasetError, match="--steps 3-9: the records are of the steps 1 to 12"):
        steps_of(record_files([dumps], steps="3-9"))


def test_one_file_by_two_paths_is_one(dumps, monkeypatch):
    monkeypatch.chdir(dumps.parent)
    assert len(record_files([dumps / "1.jsonl", Path(dumps.name) / "1.jsonl"]).files) == 1


def test_a_record_says_its_step_before_its_file_does(tmp_path):
    (tmp_path / "7.jsonl").write_text('{"step": 3}\n{}\n')
    assert steps_of(record_files([tmp_path / "7.jsonl"])) == [3, 7]


def test_names_of_problem_sets(dumps, tmp_path):
    (tmp_path / "gsm8k.jsonl").write_text("{}\n")
    assert record_files([tmp_path / "gsm8k.jsonl"]).source == "gsm8k"
    assert record_files([dumps / "1.jsonl"]).source == "dumps"
    assert record_files([dumps], source="openai/gsm8k").source == "openai/gsm8k"


def test_the_digest_is_that_of_all_files_in_order(dumps):
    one, two = (record_files([dumps / name]).sha256 for name in ("1.jsonl", "2.jsonl"))
    assert (
        len({one, two, record_files([dumps]).sha256, record_files([dumps / "2.jsonl", dumps / "1.jsonl"]).sha256}) == 4
    )


@pytest.mark.parametrize("steps", ["", "x", "5-1", "1-", "-3", "1,2", "1.5"])
def test_what_is_no_range(dumps, steps):
    with pytest.raises(ConfigError, match=r"give one step, as 12, or a range of them, as 1-50"):
        record_files([dumps], steps=steps)


def test_a_step_that_is_there_packed_and_unpacked_is_refused(dumps):
    with gzip.open(dumps / "1.jsonl.gz", "wb") as file:
        file.write((dumps / "1.jsonl").read_bytes())
    with pytest.raises(DatasetError, match=r"1\.jsonl and 1\.jsonl\.gz beside it are the same records: delete one"):
        record_files([dumps])
    assert steps_of(record_files([dumps / "1.jsonl.gz"])) == steps_of(record_files([dumps / "1.jsonl"]))


def test_what_is_not_there(tmp_path):
    for name in ("none.jsonl", "*.jsonl"):
        with pytest.raises(DatasetError, match="no file at"):
            record_files([tmp_path / name])
    with pytest.raises(DatasetError, match=r"no records in the folder .*: no file ends in \.jsonl"):
        record_files([tmp_path])
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(DatasetError, match=r"a\.jsonl, line 1: has no 'step', which --steps chooses by"):
        steps_of(record_files([tmp_path], steps="1"))
