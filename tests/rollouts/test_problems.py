from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation.problem_sets import read_problem_set
from fpa_verl.rollouts.problems import Problem, hold_out, read_problems, write_problems
from fpa_verl.rollouts.prompts import Prompt


def test_round_trip(tmp_path):
    problems = [Problem.from_text(f"p{i}", f"{i}+1", str(i + 1), "toy") for i in range(3)]
    write_problems(tmp_path / "train.parquet", problems, "train")
    assert read_problems(str(tmp_path / "train.parquet")) == problems


def test_held_out_problems_have_a_source_of_their_own(tmp_path):
    write_problems(tmp_path / "v.parquet", [Problem.from_text("p", "1+1", "2", "toy")], "validation")
    assert read_problems(str(tmp_path / "v.parquet"))[0].data_source == "toy/validation"


def test_hold_out_is_a_share_the_same_whatever_the_order():
    ids = [f"p{i}" for i in range(100)]
    assert len(hold_out(ids, 0.05, 0)) == 5
    assert hold_out(ids, 0.05, 0) == hold_out(reversed(ids), 0.05, 0)
    assert hold_out(ids, 0.05, 0) != hold_out(ids, 0.05, 1)
    assert hold_out(ids, 0.0, 0) == frozenset()


def test_json_lines_plain_and_compressed(tmp_path):
    records = [{"problem": "1+1", "answer": "2", "id": "a"}, {"problem": "2+2", "answer": ""}]
    text = "".join(json.dumps(r) + "\n" for r in records)
    (tmp_path / "p.jsonl").write_text(text)
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("p.jsonl", "p.jsonl.gz"):
        (problem,) = read_problem_set(str(tmp_path / name), Prompt("{problem}!")).problems
        assert (problem.problem_id, problem.chat[0]["content"], problem.ground_truth) == ("a", "1+1!", "2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[1]\n", "line 1: a JSON object"),
        ('{"problem": "x"}\n', "line 1: keys"),
        ("", "no problem"),
    ],
)
def test_bad_json_lines(tmp_path, content, message):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(DatasetError, match=message):
        read_problem_set(str(tmp_path / "p.jsonl"))


def test_problems_that_share_an_id_are_refused(tmp_path):
    write_problems(tmp_path / "x.parquet", [Problem.from_text("p", q, "2", "toy") for q in ("1+1", "0+2")], "train")
    with pytest.raises(DatasetError, match="2 problems of toy share the id 'p'"):
        read_problems(str(tmp_path / "x.parquet"))


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(DatasetError, match="no problem file"):
        read_problems(str(tmp_path / "x.parquet"))
    (tmp_path / "x.parquet").write_text("not parquet")
    with pytest.raises(DatasetError, match="not a parquet file"):
        read_problems(str(tmp_path / "x.parquet"))


def row(**changes):
    whole = {
        "data_source": "toy",
        "prompt": [{"role": "user", "content": "1+1"}],
        "reward_model": {"ground_truth": "2"},
        "extra_info": {"problem_id": "p"},
    }
    return {**whole, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": []},
        {"prompt": [{"role": "user", "content": None}]},
        {"data_source": None},
        {"reward_model": {"ground_truth": ["2"]}},
        {"extra_info": "p"},
    ],
)
def test_a_row_of_another_schema_is_named(changes, tmp_path):
    pq.write_table(pa.Table.from_pylist([row(**changes)]), tmp_path / "x.parquet")
    with pytest.raises(DatasetError, match=r"x\.parquet, row 0 is not in verl's problem schema"):
        read_problems(str(tmp_path / "x.parquet"))


def test_a_ground_truth_that_is_null_is_none_at_all(tmp_path):
    rows = [row(), row(reward_model={"ground_truth": None}, extra_info={"problem_id": "q"})]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert [p.is_answered for p in read_problems(str(tmp_path / "x.parquet"))] == [True, False]


def test_a_damaged_archive_is_named(tmp_path):
    whole = gzip.compress(b'{"problem": "1+1", "answer": "2"}\n')
    for content in (whole[:-9], whole[:12] + bytes([whole[12] ^ 1]) + whole[13:], b"no archive"):
        (tmp_path / "p.jsonl.gz").write_bytes(content)
        with pytest.raises(DatasetError, match=r"p\.jsonl\.gz( is damaged at line|, line 1: not JSON)"):
            read_problem_set(str(tmp_path / "p.jsonl.gz"))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("10000000000000000.0", "10000000000000000"),
        ("12345678901234567890", "12345678901234567890"),
        ("1e20", "100000000000000000000"),
        ("0.00001", "0.00001"),
        ("6.02e23", "602000000000000000000000"),
        ("1e23", "1" + "0" * 23),
        ("1e300", "1" + "0" * 300),
        ("9007199254740993.0", "9007199254740993"),
        ("123456789012345678.5", "123456789012345678.5"),
        ("3.14159265358979323846", "3.14159265358979323846"),
        ("100.0", "100"),
        ("1.5e-7", "0.00000015"),
        ("-0.0", "0"),
        ("7.0", "7"),
        ("-2.50", "-2.5"),
        ('"1e16"', "1e16"),
    ],
)
def test_a_number_in_json_is_read_as_the_number_it_is(tmp_path, written, read):
    (tmp_path / "p.jsonl").write_text(f'{{"problem": "p", "answer": {written}, "id": "a"}}\n')
    (problem,) = read_problem_set(str(tmp_path / "p.jsonl")).problems
    assert problem.ground_truth == read


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_a_number_in_parquet_has_the_digits_of_its_own_precision(tmp_path, kind):
    truths = pa.array([0.1, 1e16, 7.0, 1e23, None], kind)
    rows = [row(extra_info={"problem_id": str(i)}) for i in range(5)]
    table = pa.Table.from_pylist(rows)
    models = pa.StructArray.from_arrays([truths], ["ground_truth"])
    table = table.set_column(table.schema.get_field_index("reward_model"), "reward_model", models)
    pq.write_table(table, tmp_path / "x.parquet")
    found = [problem.ground_truth for problem in read_problems(str(tmp_path / "x.parquet"))]
    assert found == ["0.1", "1" + "0" * 16, "7", "1" + "0" * 23, ""]


@pytest.mark.parametrize("written", ["1e400", "-1e999", "1e-400", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_is_refused(tmp_path, written):
    (tmp_path / "p.jsonl").write_text(f'{{"problem": "p", "answer": {written}, "id": "a"}}\n')
    with pytest.raises(DatasetError, match=r"p\.jsonl, line 1: not JSON"):
        read_problem_set(str(tmp_path / "p.jsonl"))


MISSING = (float("nan"), float("inf"), float("-inf"), None, "nan", "None", "null", "N/A", " NaN", "inf", "-inf", "NA")


@pytest.mark.parametrize("truth", [*MISSING, "Infinity"])
def test_problems_of_parquet_without_an_answer_are_left_out_and_named(tmp_path, truth):
    """As data frames write them; a number beside them is one, whatever the column's type makes of it."""
    rows = [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"What is 3 + {number}?"}],
            "reward_model": {"style": "rule", "ground_truth": value},
            "extra_info": {"index": number},
        }
        for number, value in enumerate((7.0 if isinstance(truth, float) else "7", truth))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    found = read_problem_set(str(tmp_path / "p.parquet"))
    assert [problem.ground_truth for problem in found.problems] == ["7"]
    assert found.unanswered == ["sums/1"]
    assert found.notes()[0] == "left out, without an answer: sums/1"


@pytest.mark.parametrize("truth", ["infinity", r"\infty", "Na", r"\text{none}", "(-inf, 5)"])
def test_what_a_person_writes_is_an_answer(tmp_path, truth):
    (tmp_path / "p.jsonl").write_text(json.dumps({"problem": "p", "answer": truth, "id": "a"}) + "\n")
    (problem,) = read_problem_set(str(tmp_path / "p.jsonl")).problems
    assert problem.ground_truth == truth


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz"])
def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path, name):
    text = b'\xef\xbb\xbf{"problem": "p", "answer": "1"}\n{"problem": "q", "answer": "2"}\n'
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    assert [one.ground_truth for one in read_problem_set(str(tmp_path / name)).problems] == ["1", "2"]
