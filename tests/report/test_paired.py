from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import paired_difference
from fpa_verl.report.comparisons import paired
from fpa_verl.runs.find import find_runs
from tests.runs.directories import make_run, outcomes

DATASET = {"fingerprint": "d", "device_seconds": 10.0, "cost": {"device": "H", "device_seconds": {"generation": 10.0}}}


@pytest.fixture
def runs(tmp_path):
    """FPA solves 4 and 2 of 4 problems with two seeds, GRPO 1; each sampled twice."""
    make_run(tmp_path / "fpa0", [1, 4], dataset=DATASET)
    make_run(tmp_path / "fpa1", [1, 2], dataset=DATASET, seed=1)
    make_run(tmp_path / "grpo", [1, 1], recipe="grpo_baseline", training=None)
    return tmp_path


def test_each_method_against_the_one_that_generates_its_own_data(runs):
    found = paired.compare(find_runs([runs]))
    assert found.against == "grpo_baseline"
    ((row),) = found.tables()[0].rows
    # p0, p1: 4 of 4; p2, p3: 2 of 4; against 1, 0, 0, 0: (0 + 1 + 1/2 + 1/2) / 4.
    assert row[:3] == ["fpa_offline", "toy", "+50.0"]
    (ahead,) = found.ahead
    pooled = {"p0": (4, 4), "p1": (4, 4), "p2": (2, 4), "p3": (2, 4)}
    assert ahead.difference == paired_difference(pooled, outcomes(1))
    # Of 2^3 signs of 1, 1/2, 1/2 two have a sum of 2 or -2.
    assert ahead.difference.p_value == pytest.approx(2 / 8)
    assert row[4:] == ["0.250", "4"]


def test_the_other_way_round_the_sign_changes(runs):
    found = paired.compare(find_runs([runs]), against="fpa_offline")
    assert found.tables()[0].rows[0][:3] == ["grpo_baseline", "toy", "-50.0"]


def test_one_method_and_unknown_ones_are_refused(runs):
    with pytest.raises(DatasetError, match="one method alone"):
        paired.compare(find_runs([runs / "fpa0", runs / "fpa1"]))
    with pytest.raises(DatasetError, match="no method 'sft': choose --against from fpa_offline, grpo_baseline"):
        paired.compare(find_runs([runs]), against="sft")


def test_the_command_writes_table_figure_and_numbers(runs):
    done = CliRunner().invoke(app, ["report", str(runs), "--compare", "paired"])
    assert done.exit_code == 0, done.output
    (one,) = json.loads((runs / "report" / "paired.json").read_text())["differences"]
    assert (one["difference"], one["problems"], one["test"]) == (0.5, 4, "sign-flip")
    assert (runs / "report" / "paired.svg").exists()
