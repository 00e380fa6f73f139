"""How far a command is, and what it shows of that."""

from __future__ import annotations

import time

import pytest

from fpa_verl.files import append_json_line
from fpa_verl.runs import progress
from fpa_verl.runs.names import EVALUATION_KIND
from fpa_verl.runs.progress import Count, Tally, read_count
from fpa_verl.runs.run import read_run
from fpa_verl.runs.state import Reader, accuracy
from tests.runs.directories import INFO, make_run

ONE_SET = {"evaluation": {**INFO["evaluation"], "problem_sets": {"toy": "e"}}}


def test_the_pace_is_that_of_this_attempt():
    count = Count("collecting", "answers", done=900, total=1800, before=600, began=1000.0, time=1060.0)
    assert count.a_second == 5.0
    assert count.remaining(1060.0) == 180.0
    assert count.remaining(1100.0) == 140.0


def test_no_pace_is_told_by_a_first_answer():
    count = Count("collecting", "answers", done=1, total=1800, before=0, began=1000.0, time=1060.0)
    assert count.remaining(1060.0) is None
    assert Count("collecting", "answers", 0, 8, 0, 1000.0, 1060.0).a_second is None


def test_counts_are_written_once_a_second_and_the_end_at_once(tmp_path, monkeypatch):
    clock = iter([100.0, 100.5, 101.5, 101.5, 101.6])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    tally = Tally(tmp_path, "collecting", "answers", total=8, done=2)
    tally.see(3)
    assert read_count(tmp_path).done == 2
    tally.behind(2)(2)
    assert read_count(tmp_path) == Count("collecting", "answers", 4, 8, 2, 100.0, 101.5)
    tally.end(8)
    assert (read_count(tmp_path).done, read_count(tmp_path).over) == (8, True)


@pytest.mark.parametrize("content", ["", "{", '{"done": 1}', "[1]"])
def test_a_count_that_cannot_be_read_is_none(tmp_path, content):
    assert read_count(tmp_path) is None
    (tmp_path / "progress.json").write_text(content)
    assert read_count(tmp_path) is None


def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path):
    (tmp_path / "file").write_text("")
    Tally(tmp_path / "file", "collecting", "answers", total=8).end(8)


def test_a_run_shows_step_accuracy_and_time_left(tmp_path):
    run = make_run(tmp_path / "fpa", [1, 2, 2], validation=[2, 3, 1], finished=False)
    (run / "config.yaml").write_text("trainer:\n  total_training_steps: 20\n")
    for step, at in ((3, 1000.0), (4, 1030.0)):
        record = {"kind": "step", "time": at, "attempt": 1, "step": step, "seconds": {"training": 30.0}}
        append_json_line(run / "ledger.jsonl", record)
    # From 0.0 after step 2, the pace is 1,030 s over 3 steps; 16 are left.
    state = Reader(run, since=0.0).state(1030.0)
    assert (state.doing, state.counted) == ("fpa", "4/20 steps")
    assert state.note.startswith("validation 25.0 %, best 75.0 % (step 1), ")
    assert state.note.endswith(" left")


def test_a_run_that_validates_shows_how_many_answers_it_has(tmp_path):
    run = make_run(tmp_path / "fpa", [1, 2], validation=[2, 3], finished=False)
    reader = Reader(run, since=time.time())
    tally = Tally(run, "evaluating", "answers", total=72)
    assert reader.state(time.time()).note == "validation 75.0 %, evaluating 0/72"
    tally.end(72)
    assert "evaluating" not in reader.state(time.time()).note


def test_a_count_of_an_earlier_attempt_says_nothing(tmp_path):
    Tally(tmp_path, "collecting", "answers", total=72)
    assert str(Reader(tmp_path, since=time.time() + 1).state(time.time())) == "starting"


def test_an_evaluation_counts_answers(tmp_path):
    run = make_run(tmp_path / "a", [1], kind=EVALUATION_KIND)
    Tally(run, "evaluating", "answers", total=72, done=4)
    assert str(Reader(run, since=0.0).state(time.time())) == "evaluating 4/72 answers"


def test_without_validation_problems_it_is_the_accuracy_of_the_first_others(tmp_path):
    run = read_run(make_run(tmp_path / "a", [1, 3], **ONE_SET))
    assert accuracy(run) == "accuracy 75.0 %"


def test_silence_is_that_of_both_files(tmp_path):
    run = make_run(tmp_path / "a", [1, 2], finished=False)
    now = time.time()
    assert progress.progress_of(read_run(run), now).silent_for == pytest.approx(now)
    Tally(run, "evaluating", "answers", total=72)
    assert progress.progress_of(read_run(run), time.time()).silent_for < 5
