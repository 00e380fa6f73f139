"""Accuracy against cost, on run directories with known answers."""

from __future__ import annotations

import copy
import json

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.files import append_json_line
from fpa_verl.report.comparisons import wallclock
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.record import open_run, record_evaluation
from fpa_verl.runs.run import read_run
from tests.runs.directories import INFO, make_run

# 3,600 device-seconds of generation.
DATASET = {"fingerprint": "d", "device_seconds": 3600.0, "cost": {"device": "H"}}


def test_generation_stands_in_front_of_the_offline_curve(tmp_path):
    make_run(tmp_path / "fpa", [1, 2, 4], dataset=DATASET)
    (curve,) = wallclock.compare(find_runs([tmp_path])).curves
    # 1 h of data, then 900 s on 2 devices = 0.5 device-hours a step; evaluation is not counted.
    assert [point.device_hours for point in curve.points] == [0.0, 1.5, 2.0]
    assert [point.accuracy for point in curve.points] == [0.25, 0.5, 1.0]


def test_cost_to_targets_and_not_reached(tmp_path):
    make_run(tmp_path / "fpa", [1, 2, 4], dataset=DATASET)
    make_run(tmp_path / "grpo", [1, 1, 2, 3], recipe="grpo_baseline")
    comparison = wallclock.compare(find_runs([tmp_path]), targets=[0.5, 1.0])
    costs = {c.run: [c.device_hours_to(t) for t in (0.5, 1.0)] for c in comparison.curves}
    assert costs == {"fpa": [1.5, 2.0], "grpo": [1.0, None]}


def test_standard_error_is_over_problems(tmp_path):
    make_run(tmp_path / "fpa", [1, 2])
    point = read_run(tmp_path / "fpa").of_source("toy")[-1]
    # Shares 1, 1, 0, 0: variance 1/3, over 4 problems: sqrt(1/12).
    assert point.standard_error == pytest.approx((1 / 12) ** 0.5)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"fingerprints": {**INFO["fingerprints"], "model": "other"}}, "base model"),
        ({"fingerprints": {**INFO["fingerprints"], "scorer": "other"}}, "scorer"),
        ({"evaluation": {**INFO["evaluation"], "problem_sets": {"toy": "x"}}}, "evaluation set"),
        ({"evaluation": {**INFO["evaluation"], "temperature": 1.0}}, "evaluation's temperature"),
        ({"evaluation": {**INFO["evaluation"], "decoding": "beam"}}, "evaluation's decoding"),
        ({"hardware": {"devices": 2, "device": "other"}}, "kind of device"),
    ],
)
def test_refuses_runs_that_differ_and_says_in_what(tmp_path, change, what):
    make_run(tmp_path / "a", [1, 2])
    make_run(tmp_path / "b", [1, 2], **change)
    for names in ("ab", "ba"):
        with pytest.raises(MismatchError, match=f"their {what} differs"):
            wallclock.compare(find_runs([tmp_path / name for name in names]))


def test_data_from_another_device_is_not_added_up(tmp_path):
    make_run(tmp_path / "a", [1, 2], dataset={**DATASET, "cost": {"device": "A100"}})
    with pytest.raises(MismatchError, match="cannot be added"):
        wallclock.compare(find_runs([tmp_path]))


def test_data_that_another_scorer_judged_is_said(tmp_path):
    make_run(tmp_path / "a", [1, 2], dataset={**DATASET, "scorer": "s"})
    make_run(tmp_path / "b", [1, 2], dataset={**DATASET, "fingerprint": "d", "scorer": "kept/1234"}, seed=1)
    notes = wallclock.compare(find_runs([tmp_path])).notes()
    assert [note for note in notes if "verdicts" in note] == ["b trained on verdicts of kept/1234 and is measured by s"]


def test_a_restart_is_paid_for(tmp_path):
    folder = make_run(tmp_path / "a", [1, 2])
    append_json_line(folder / "ledger.jsonl", {"kind": "attempt", "time": 0, "attempt": 2, "devices": 2})
    for step in (1, 2):
        seconds = {"startup": 60.0, "training": 900.0}
        append_json_line(
            folder / "ledger.jsonl", {"kind": "step", "time": 0, "attempt": 2, "step": step, "seconds": seconds}
        )
    record_evaluation(folder, attempt=2, step=2, problems={"toy": {"p0": [2, 2]}})
    point = read_run(folder).of_source("toy")[-1]
    # Step 1 was done twice, step 2 once, on 2 devices.
    assert point.device_seconds == 2 * (900 + 900 + 900)


def test_a_resumed_run_evaluates_its_first_step_again_and_the_first_measurement_stands(tmp_path):
    folder = make_run(tmp_path / "a", [1, 2, 3])
    before = read_run(folder).of_source("toy")
    append_json_line(folder / "ledger.jsonl", {"kind": "attempt", "time": 0, "attempt": 2, "devices": 2})
    record_evaluation(folder, attempt=2, step=2, problems={"toy": {"p0": [2, 2]}})
    assert read_run(folder).of_source("toy") == before


def test_an_evaluation_without_a_record_of_its_step_costs_all_that_was_spent_by_then(tmp_path):
    folder = make_run(tmp_path / "a", [1, 2])
    record_evaluation(folder, attempt=1, step=2, problems={"toy": {"p0": [2, 2]}})
    assert read_run(folder).of_source("toy")[-1].device_seconds == 1800


def test_samples_that_could_not_be_scored_are_said(tmp_path):
    folder = make_run(tmp_path / "a", [1, 2])
    record_evaluation(folder, attempt=1, step=2, problems={"toy": {"p0": [2, 2]}}, asked_for={"toy": 5})
    comparison = wallclock.compare(find_runs([tmp_path]))
    assert comparison.notes() == ["a: 3 samples of its evaluations could not be generated or scored and are left out"]


def test_an_evaluation_that_was_repeated_counts_its_unscored_samples_once(tmp_path):
    folder = make_run(tmp_path / "a", [1, 2])
    for attempt in (1, 2):
        record_evaluation(folder, attempt=attempt, step=2, problems={"toy": {"p0": [2, 2]}}, asked_for={"toy": 5})
    assert read_run(folder).unscored == 3


def test_a_problem_set_of_which_nothing_could_be_scored_is_not_forgotten(tmp_path):
    folder = make_run(tmp_path / "a", [1, 2])
    record_evaluation(folder, attempt=1, step=2, problems={"toy": {"p0": [2, 2]}}, asked_for={"toy": 2, "other": 4})
    run = read_run(folder)
    assert run.unscored == 4
    assert run.of_source("other")[0].problems == {}


def test_a_run_folder_is_not_taken_over_by_another_run(tmp_path):
    make_run(tmp_path / "a", [1])
    open_run(tmp_path / "a", copy.deepcopy(INFO))
    with pytest.raises(MismatchError, match="its recipe differs"):
        open_run(tmp_path / "a", {**INFO, "recipe": "off_rl"})


def test_no_runs_and_no_evaluation(tmp_path):
    with pytest.raises(DatasetError, match="no runs"):
        wallclock.compare(find_runs([tmp_path]))
    with pytest.raises(DatasetError, match="no folder"):
        find_runs([tmp_path / "nowhere"])
    make_run(tmp_path / "a", [])
    with pytest.raises(DatasetError, match="a is not evaluated"):
        wallclock.compare(find_runs([tmp_path]))
    make_run(tmp_path / "b", [1, 2])
    comparison = wallclock.compare(find_runs([tmp_path]))
    assert [curve.run for curve in comparison.curves] == ["b"]
    assert comparison.notes() == ["Not evaluated, and left out: a"]
    with pytest.raises(DatasetError, match="choose --on from"):
        wallclock.compare(find_runs([tmp_path]), "math")


def test_command_prints_a_table_and_writes_figure_markdown_and_json(tmp_path):
    make_run(tmp_path / "fpa", [1, 2, 4], dataset=DATASET)
    make_run(tmp_path / "grpo", [1, 1, 2], recipe="grpo_baseline")
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--compare", "wallclock", "--target", "0.5"])
    assert result.exit_code == 0, result.output
    assert "fpa" in result.output
    assert (tmp_path / "report" / "wallclock.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((tmp_path / "report" / "wallclock.json").read_text())
    assert [run["device_hours_to_target"]["0.5000"] for run in content["runs"]] == [1.5, 1.0]
    assert "| fpa | 25.0 | 100.0 ± 0.0 | 100.0 | 2.00 | 1.50 |" in (tmp_path / "report" / "wallclock.md").read_text()


@pytest.mark.patient
def test_report_needs_neither_torch_nor_verl_nor_ray():
    import subprocess
    import sys

    code = (
        "import sys, fpa_verl.cli, fpa_verl.report.figures, fpa_verl.tables;"
        "print(sorted({'torch', 'verl', 'ray', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
