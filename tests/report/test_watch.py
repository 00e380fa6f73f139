"""One frame of `fpa-verl watch`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError
from fpa_verl.files import append_json_line
from fpa_verl.report.statistics.curves import curve_of
from fpa_verl.report.watch import best_at, duration, frame, progress_of
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.run import read_run
from tests.runs.directories import make_run

DATASET = {"fingerprint": "d", "device_seconds": 3600.0, "cost": {"device": "H", "devices": 2}}


@pytest.fixture
def going(tmp_path):
    """A run of 20 steps that was taken up again after its 2nd and is at its 5th, 30 s each."""
    run = make_run(tmp_path / "runs/fpa", [1, 2], dataset=DATASET, finished=False)
    (run / "config.yaml").write_text("trainer:\n  total_training_steps: 20\n")
    append_json_line(run / "ledger.jsonl", {"kind": "attempt", "time": 1060.0, "attempt": 2, "devices": 2})
    for step in (3, 4, 5):
        record = {"kind": "step", "time": 1000.0 + 30 * step, "attempt": 2, "step": step}
        append_json_line(run / "ledger.jsonl", {**record, "seconds": {"training": 30.0}})
    return run


def shown(runs, now):
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(frame(runs, now))
    return console.export_text()


def test_pace_and_time_left(going):
    progress = progress_of(read_run(going), now=1160.0)
    # Steps 3, 4 and 5 of the second attempt, 30 s apart; 15 steps to go, and 10 s of them gone.
    assert (progress.step, progress.total, progress.seconds_a_step) == (5, 20, 30.0)
    assert progress.remaining == 15 * 30 - 10
    assert progress.state == "running"


def test_a_run_that_stopped_writing_is_silent(going):
    # 10 steps of 30 s are 300 s.
    assert progress_of(read_run(going), now=1150.0 + 299).state == "running"
    assert progress_of(read_run(going), now=1150.0 + 3700).state == "silent for 1 h 01 min"


def test_without_a_configuration_nothing_is_guessed(tmp_path):
    make_run(tmp_path / "a", [1], finished=False)
    progress = progress_of(read_run(tmp_path / "a"), now=5.0)
    assert (progress.total, progress.seconds_a_step, progress.remaining) == (None, None, None)
    assert progress.state == "starting"


def test_the_ledger_knows_the_steps_better_than_the_configuration(going):
    record = {"kind": "step", "time": 1180.0, "attempt": 2, "step": 6, "seconds": {}, "total_steps": 30}
    append_json_line(going / "ledger.jsonl", record)
    assert progress_of(read_run(going), now=1180.0).remaining == 24 * 30


def test_others_count_as_they_were_at_the_same_cost(tmp_path, going):
    make_run(tmp_path / "runs/grpo", [1, 3, 4], recipe="grpo_baseline")
    curves = [curve_of(read_run(tmp_path / "runs/grpo"), "toy")]
    # It cost 0.5 device-hours a step.
    assert best_at(curves, 0.9)[1].step == 1
    assert best_at(curves, 1.0)[1].step == 2
    assert best_at([], 1.0) is None


def test_a_frame_shows_progress_cost_and_accuracy_beside_the_other_run(tmp_path, going):
    make_run(tmp_path / "runs/grpo", [1, 3, 4], recipe="grpo_baseline")
    fpa, grpo = (line for line in shown(find_runs([tmp_path / "runs"]), 1160.0).splitlines() if "/" in line)
    # Device-hours: 1 of the dataset, 0.5 of step 1 and 3 x 60 device-seconds.
    for part in ("fpa", "5/20", "7 min 20 s", "1.550", "50.0 ± 28.9", "100.0 grpo"):
        assert part in fpa
    for part in ("grpo", "2/?", "finished", "1.000", "100.0 ± 0.0", "25.0 fpa"):
        assert part in grpo


def test_durations():
    assert [duration(s) for s in (0, 59.6, 3599, 3600, 100_000)] == [
        "0 min 00 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 00 min",
        "27 h 46 min",
    ]


def test_command_ends_when_all_runs_have(tmp_path):
    make_run(tmp_path / "a", [1, 2])
    done = CliRunner().invoke(app, ["watch", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "finished" in done.output
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no runs yet"):
        CliRunner().invoke(app, ["watch", str(tmp_path / "empty")], catch_exceptions=False)
