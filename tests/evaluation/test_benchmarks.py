from __future__ import annotations

import os
from pathlib import Path

import pytest

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation.benchmarks import BENCHMARKS, after_hashes, benchmark, joined, plain
from fpa_verl.evaluation.contamination import ProblemIndex
from fpa_verl.evaluation.problem_sets import read_problem_set

DATA = Path(os.environ.get("FPA_VERL_MATH_DATA", Path(__file__).resolve().parents[3] / "shared" / "data" / "math"))


def test_the_seven_of_the_paper_and_their_samples():
    titles = {entry.title for entry in BENCHMARKS.values()}
    assert titles == {"GSM8K", "MATH500", "MATH-Perturb", "GaoKao2023En", "OlympiadBench", "AMC23/24", "AIME24/25/26"}
    for entry in BENCHMARKS.values():
        assert entry.samples == (32 if entry.title.startswith(("AMC", "AIME")) else 8)
        assert BENCHMARKS[entry.name] is entry


def test_an_unknown_name_lists_the_known():
    with pytest.raises(DatasetError, match="no benchmark 'math': choose from gsm8k, math500, "):
        benchmark("math")


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        (plain, 27.0, "27"),
        (plain, "-3.0", "-3"),
        (plain, "2.50", "2.50"),
        (plain, " 025 ", "025"),
        (plain, "x.0", "x.0"),
        (after_hashes, "3 + 4 = <<3+4=7>>7\n#### 1,080", "1,080"),
        (after_hashes, "no hashes", ""),
        (joined, ["$69$", "$84$"], "$69$, $84$"),
        (joined, "2", "2"),
    ],
)
def test_ground_truths(truth, answer, expected):
    assert truth(answer) == expected


def test_a_row_in_the_local_schema():
    row = {"question": "2 + 3?", "answer": "2 + 3 = 5\n#### 5"}
    assert BENCHMARKS["gsm8k"].record(row, 7) == {
        "id": "gsm8k/test/0007",
        "problem": "2 + 3?",
        "answer": "5",
        "source": "gsm8k",
    }


# The last asks for "NaN" where there is no solution, which nobody can tell from a number that is missing.
UNANSWERED = {
    "gaokao2023en": ["gaokao2023en/167", "gaokao2023en/192"],
    "math_perturb_hard": ["math_perturb_hard/train/2196"],
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_local_copies(name):
    """Every entry against problems at hand: how many, whose they are, and ids that a download would give too."""
    path = DATA / ("gsm8k_test.jsonl" if name == "gsm8k" else f"{name}.jsonl")
    if not path.exists():
        pytest.skip("no benchmark problems: FPA_VERL_MATH_DATA names no folder that has them")
    found = read_problem_set(str(path))
    assert len(found.problems) + len(found.unanswered) == BENCHMARKS[name].problems
    assert {problem.data_source for problem in found.problems} == {name}
    assert found.repeated() == []
    assert found.unanswered == UNANSWERED.get(name, [])
    if name == "gsm8k":
        pattern = BENCHMARKS[name].problem_id
        assert [p.problem_id for p in found.problems] == [f"{name}/{pattern.format(index=i)}" for i in range(1319)]


def test_olympiadbench_problems_that_are_training_problems():
    """Read by eye, and stated in docs/evaluation.md: six in other typesetting, two in other words."""
    files = [DATA / name for name in ("math_train_12k.jsonl.gz", "olympiadbench.jsonl")]
    if not all(path.exists() for path in files):
        pytest.skip("no MATH problems: FPA_VERL_MATH_DATA names no folder that has them")
    training, evaluation = (read_problem_set(str(path)) for path in files)
    found = ProblemIndex(training.texts()).matches(evaluation.texts())
    same = {match.evaluation_id.removeprefix("olympiadbench/") for match in found if match.same}
    near = {match.evaluation_id.removeprefix("olympiadbench/") for match in found if not match.same}
    assert same == {"2644", "2713", "2791", "2890", "2895", "2918"}
    assert near == {"2607", "2794"}
    # The answers agree, which the texts alone do not say.
    truths = [{p.problem_id: p.ground_truth.strip("$") for p in s.problems} for s in (evaluation, training)]
    assert all(truths[0][match.evaluation_id] == truths[1][match.training_id] for match in found)
    assert len(training.repeated()) == 10
