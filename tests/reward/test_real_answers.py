"""Both error rates on the half of the real ground truths that the scorer was not developed on.

Slow (`make test-slow`). `FPA_VERL_MATH_DATA` names the folder of JSON Lines; without it these tests skip.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("FPA_VERL_MATH_DATA", REPOSITORY.parent / "shared" / "data" / "math"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (DATA / "math_train_12k.jsonl.gz").exists(),
        reason="no MATH problems: FPA_VERL_MATH_DATA names no folder that has them",
    ),
]


@pytest.fixture(scope="module")
def benchmark():
    """The benchmark as a module; it imports its neighbours as a script does."""
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        return importlib.import_module("scorer_errors")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def answers(benchmark):
    return [row for row in benchmark.read_answers(DATA) if benchmark.half_of(row[0]) == "judge"]


def rate(benchmark, answers, changes, is_error) -> float:
    pairs = benchmark.pairs_of(answers, changes)
    assert len(pairs) > 20_000
    return sum(map(is_error, benchmark.statuses(pairs, "fpa-verl"))) / len(pairs)


def test_ground_truths_grade_themselves_right(benchmark, answers):
    """Two of 11,670 are known not to: '$t(0,4]$' and 'NaN'."""
    itself = [(i, "itself", truth, truth) for i, truth in answers]
    found = benchmark.statuses(itself, "fpa-verl")
    assert {pair[0] for pair, status in zip(itself, found, strict=True) if status != "right"} <= {
        "olympiadbench/2045",
        "math_perturb_hard/train/2196",
    }


def test_the_same_in_other_words_is_right(benchmark, answers):
    assert rate(benchmark, answers, benchmark.rewritings, "right".__ne__) < 2e-4


def test_another_number_is_wrong(benchmark, answers):
    assert rate(benchmark, answers, benchmark.alterations, "right".__eq__) < 2e-4
