"""One frame of `fpa-verl watch`."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.files import append_json_line, write_json
from fpa_verl.report.statistics.curves import curve_of
from fpa_verl.report.watch import best_at, frame, watch, watched
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.progress import Tally, duration, progress_of
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


def shown(runs, now, counted=()):
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(frame(runs, now, counted))
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
    record = {"kind": "step", "time": 1180.0, "attempt": 2, "step": 6, "total_steps": 30, "seconds": {"training": 30}}
    append_json_line(going / "ledger.jsonl", record)
    assert progress_of(read_run(going), now=1180.0).remaining == 24 * 30


def test_nothing_is_foretold_of_a_run_that_was_silent_for_longer_than_it_had_left(going):
    """As one that goes on after a night, before its first step."""
    record = {"kind": "step", "time": 1180.0, "attempt": 2, "step": 6, "total_steps": 30, "seconds": {"training": 30}}
    append_json_line(going / "ledger.jsonl", record)
    assert progress_of(read_run(going), now=1180.0 + 24 * 30).remaining is None


def test_evaluations_that_are_to_come_are_counted_apart(going):
    (going / "config.yaml").write_text("trainer:\n  total_training_steps: 20\n  test_freq: 3\n")
    record = {"kind": "step", "time": 1230.0, "attempt": 2, "step": 6}
    append_json_line(going / "ledger.jsonl", {**record, "seconds": {"training": 30.0, "evaluation": 50.0}})
    # 14 steps are left, and the evaluations after steps 9, 12, 15, 18 and 20.
    assert progress_of(read_run(going), now=1230.0).remaining == 14 * 30 + 5 * 50


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
    # For as much fpa had its data and the base model, which is nobody's.
    for part in ("grpo", "2/?", "finished", "1.000", "100.0 ± 0.0  - "):
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


@pytest.mark.parametrize("is_there", [True, False])
def test_what_has_not_begun_is_waited_for(tmp_path, monkeypatch, is_there):
    folder, waited = tmp_path / "runs", []
    if is_there:
        folder.mkdir()

    def begin(seconds):
        waited.append(seconds)
        assert len(waited) < 4, "it does not end"
        if len(waited) == 2:
            make_run(folder / "a", [1, 2])

    monkeypatch.setattr(time, "sleep", begin)
    console = Console(width=100, record=True, file=io.StringIO(), force_terminal=True)
    watch([str(folder)], console, every_s=3.0)
    assert waited == [3.0, 3.0]
    shown = " ".join(console.export_text().split())
    assert f"nothing yet in {folder}: waiting for a run to begin" in shown
    assert "finished" in shown


def test_without_a_terminal_it_does_not_wait_for_what_may_never_come(tmp_path, monkeypatch, going):
    """Nothing is there, or a run that has ended before its last step."""

    def wait(_):
        pytest.fail("it waits")

    monkeypatch.setattr(time, "sleep", wait)
    done = CliRunner().invoke(app, ["watch", str(tmp_path / "nothing")], catch_exceptions=False)
    assert done.output.split() == ["nothing", "yet", "in", *str(tmp_path / "nothing").split()]
    append_json_line(going / "ledger.jsonl", {"kind": "closed", "time": 1150.0, "attempt": 2, "seconds": {}})
    assert "stopped, see log.txt" in CliRunner().invoke(app, ["watch", str(going)], catch_exceptions=False).output


def test_a_command_that_has_a_log_and_nothing_to_count_yet_is_starting(tmp_path):
    folder = tmp_path / "words/rollouts"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("====")
    begun = (folder / "log.txt").stat().st_mtime
    assert watched([str(tmp_path)]) == ([], [folder])
    (line,) = [line for line in shown([], begun + 120, [folder]).splitlines() if "rollouts" in line]
    assert "starting" in line
    assert "silent for 6 min 00 s" in shown([], begun + 360, [folder])
    # An evaluation that was over before anything was counted.
    append_json_line(folder / "ledger.jsonl", {"kind": "attempt", "time": 1.0, "attempt": 1, "devices": 1})
    append_json_line(folder / "ledger.jsonl", {"kind": "end", "time": 2.0, "attempt": 1, "step": 0, "seconds": {}})
    assert watched([str(tmp_path)]) == ([], [])


def test_a_collection_that_failed_is_stopped_and_has_a_name_of_its_own(tmp_path):
    folders = [tmp_path / name / "rollouts" for name in ("a", "b")]
    for folder in folders:
        Tally(folder, "collecting", "answers", total=8, done=8)
    append_json_line(folders[0] / "ledger.jsonl", {"kind": "attempt", "time": 1.0, "attempt": 1, "devices": 1})
    append_json_line(folders[0] / "ledger.jsonl", {"kind": "closed", "time": 2.0, "attempt": 1, "seconds": {}})
    first, second = (line for line in shown([], time.time(), folders).splitlines() if "collecting" in line)
    assert "a/rollouts, collecting" in first
    assert "8/8 answers" in first
    assert "stopped, see log.txt" in first
    assert "b/rollouts, collecting" in second
    assert "starting" in second


def test_between_two_runs_it_waits_for_the_second(tmp_path, monkeypatch):
    """Typed while the second run is still being checked, beside a first that is finished."""
    make_run(tmp_path / "a", [1, 2])
    waited = []

    def begin(seconds):
        waited.append(seconds)
        assert len(waited) < 4, "it does not end"
        if len(waited) == 2:
            make_run(tmp_path / "b", [1, 2], seed=1)

    monkeypatch.setattr(time, "sleep", begin)
    console = Console(width=100, record=True, file=io.StringIO(), force_terminal=True)
    watch([str(tmp_path)], console, every_s=3.0)
    assert waited == [3.0, 3.0]
    assert f"all is finished in {tmp_path}" in " ".join(console.export_text().split())


def test_a_collection_is_shown_by_its_answers(tmp_path):
    folder = tmp_path / "runs/rollouts"
    # 600 answers were there before; 300 have come in 60 s, and 900 are to come.
    count = {"doing": "collecting", "unit": "answers", "done": 900, "total": 1800, "before": 600}
    write_json(folder / "progress.json", {**count, "began": 1000.0, "time": 1060.0, "over": False})
    append_json_line(folder / "ledger.jsonl", {"kind": "attempt", "time": 1000.0, "attempt": 1, "devices": 2})
    record = {"kind": "step", "time": 1060.0, "attempt": 1, "step": 0, "seconds": {"generation": 60.0}}
    append_json_line(folder / "ledger.jsonl", record)
    runs, counted = watched([str(tmp_path / "runs")])
    assert (runs, counted) == ([], [folder])
    line = next(line for line in shown(runs, 1070.0, counted).splitlines() if "collecting" in line)
    # 900 at 5 a second are 180 s, 10 of which are gone; 2 devices for 60 s are 0.033 hours.
    for part in ("rollouts, collecting", "900/1,800 answers", "2 min 50 s", "0.033", "5.0"):
        assert part in line
    assert "silent for 10 min 00 s" in shown(runs, 1660.0, counted)


def test_a_collection_that_failed_is_not_silent_and_folders_of_one_name_are_told_apart(tmp_path):
    count = {"doing": "collecting", "unit": "answers", "done": 8, "total": 8, "before": 0, "began": 1000.0}
    for name in ("a", "b"):
        folder = tmp_path / name / "rollouts"
        folder.mkdir(parents=True)
        write_json(folder / "progress.json", {**count, "time": 1010.0, "over": False})
        record = {"kind": "attempt", "time": 1000.0, "attempt": 1, "devices": 1, "started_at": 1000.0}
        append_json_line(folder / "ledger.jsonl", record)
    append_json_line(
        folder / "ledger.jsonl", {"kind": "closed", "time": 1011.0, "attempt": 1, "seconds": {"idle": 1.0}}
    )
    runs, counted = watched([str(tmp_path)])
    lines = {
        line.split(",")[0].strip(): line for line in shown(runs, 1500.0, counted).splitlines() if "collecting" in line
    }
    assert "stopped, see log.txt" in lines["b/rollouts"]
    assert "silent for 8 min 10 s" in lines["a/rollouts"]


def test_what_a_run_counts_while_it_validates_is_no_second_line(tmp_path):
    run = make_run(tmp_path / "a", [1, 2])
    Tally(run, "evaluating", "answers", total=8)
    assert watched([str(tmp_path)])[1] == []


def test_a_collection_that_is_over_ends_the_watch(tmp_path):
    Tally(tmp_path / "rollouts", "collecting", "answers", total=8).end(8)
    done = CliRunner().invoke(app, ["watch", str(tmp_path)])
    assert (done.exit_code, "8/8 answers" in done.output, "finished" in done.output) == (0, True, True)
