from __future__ import annotations

import time

import pytest

from fpa_verl.files import append_json_line, read_json_lines
from fpa_verl.report.ledger import (
    EVALUATION,
    GENERATION,
    IDLE,
    LEDGER_FILE,
    STARTUP,
    TRAINING,
    Ledger,
    close_ledger,
    read_spending,
)


def test_phases_add_up_to_the_wall_clock(tmp_path):
    started = time.time()
    ledger = Ledger(tmp_path, devices=2, started_at=started - 1.0)
    ledger.started()
    for step in range(1, 4):
        with ledger.phase(GENERATION):
            time.sleep(0.02)
        with ledger.phase(TRAINING):
            time.sleep(0.03)
            with ledger.phase(EVALUATION):
                time.sleep(0.01)
        ledger.write("step", step)
    ledger.write("end", 4)
    wall = time.time() - started + 1.0
    records = read_json_lines(tmp_path / LEDGER_FILE)
    total = sum(sum(record.get("seconds", {}).values()) for record in records)
    assert total == pytest.approx(wall, rel=0.01)
    # The inner phase is taken out of the outer one.
    training = sum(record.get("seconds", {}).get(TRAINING, 0) for record in records)
    assert 0.09 <= training < 0.115


def test_start_up_ends_when_it_is_said_to(tmp_path):
    ledger = Ledger(tmp_path, devices=1, started_at=time.time() - 5)
    ledger.started()
    ledger.write("step", 1)
    seconds = read_json_lines(tmp_path / LEDGER_FILE)[1]["seconds"]
    assert seconds[STARTUP] == pytest.approx(5, abs=0.2)
    assert seconds[IDLE] < 0.2


def test_a_resumed_run_is_another_attempt_and_nothing_is_rewritten(tmp_path):
    first = Ledger(tmp_path, devices=1, started_at=time.time())
    first.write("step", 1)
    before = (tmp_path / LEDGER_FILE).read_bytes()
    second = Ledger(tmp_path, devices=1, started_at=time.time())
    assert (first.attempt, second.attempt) == (1, 2)
    assert (tmp_path / LEDGER_FILE).read_bytes().startswith(before)


def test_the_command_writes_down_how_long_it_took_to_end(tmp_path):
    ledger = Ledger(tmp_path, devices=2, started_at=1000.0)
    ledger.write("end", 4)
    before = read_spending(tmp_path)
    time.sleep(0.05)
    close_ledger(tmp_path, started_at=1000.0, failed=False)
    after = read_spending(tmp_path)
    assert 0.05 <= after.wall_seconds[STARTUP] - before.wall_seconds[STARTUP] < 1
    assert after.cost == before.cost
    assert after.finished
    # Neither twice, nor for a command that never came to write an attempt.
    close_ledger(tmp_path, started_at=1000.0, failed=False)
    close_ledger(tmp_path, started_at=5.0, failed=True)
    assert len(read_json_lines(tmp_path / LEDGER_FILE)) == 3


def test_what_a_failed_attempt_spent_counts(tmp_path):
    ledger = Ledger(tmp_path, devices=2, started_at=1000.0)
    ledger.started()
    ledger.write("step", 1)
    time.sleep(0.05)
    before = read_spending(tmp_path).cost.wall_seconds
    close_ledger(tmp_path, started_at=1000.0, failed=True)
    assert 0.05 <= read_spending(tmp_path).cost.wall_seconds - before < 1
    assert not read_spending(tmp_path).finished


def test_a_run_that_goes_on_after_its_end_is_not_finished(tmp_path):
    Ledger(tmp_path, devices=1, started_at=0.0).write("end", 4)
    assert read_spending(tmp_path).finished
    again = Ledger(tmp_path, devices=1, started_at=1.0)
    assert not read_spending(tmp_path).finished
    again.write("end", 8)
    assert read_spending(tmp_path).finished


def test_the_step_that_an_attempt_goes_on_from_was_paid_for_by_those_before(tmp_path):
    def record(kind, attempt, **values):
        append_json_line(tmp_path / LEDGER_FILE, {"kind": kind, "time": 0.0, "attempt": attempt, **values})

    record("attempt", 1, devices=2)
    record("step", 1, step=1, seconds={TRAINING: 10.0})
    record("step", 1, step=2, seconds={TRAINING: 10.0})
    record("attempt", 2, devices=2)
    record("step", 2, step=2, seconds={TRAINING: 30.0})
    spending = read_spending(tmp_path)
    # Attempt 2 went on after step 1, and evaluated that before it trained; it was killed in the evaluation of step 3.
    assert spending.at(2, 1).wall_seconds == 20.0
    assert spending.at(2, 2).wall_seconds == 50.0
    assert spending.at(2, 3).wall_seconds == 50.0


def test_a_torn_last_line_is_left_out(tmp_path):
    append_json_line(tmp_path / "x.jsonl", {"a": 1})
    with open(tmp_path / "x.jsonl", "a") as handle:
        handle.write('{"a": 2')
    assert read_json_lines(tmp_path / "x.jsonl") == [{"a": 1}]
