from __future__ import annotations

import time

import pytest

from fpa_verl.files import append_json_line, read_json_lines
from fpa_verl.runs import ledger as ledger_module
from fpa_verl.runs.ledger import (
    EVALUATION,
    GENERATION,
    IDLE,
    STARTUP,
    TRAINING,
    Cost,
    Ledger,
    close_ledger,
    read_spending,
)
from fpa_verl.runs.names import LEDGER_FILE


class Clock:
    """A clock that tests turn."""

    def __init__(self):
        self.now = 1000.0

    def time(self):
        return self.now

    def monotonic(self):
        # Another zero than that of the calendar, as it has it.
        return self.now - 900.0

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    one = Clock()
    monkeypatch.setattr(ledger_module, "time", one)
    return one


def test_phases_add_up_to_the_wall_clock(tmp_path, clock):
    ledger = Ledger(tmp_path, devices=2, started_at=clock.now - 1.0)
    ledger.started()
    for step in range(1, 4):
        with ledger.phase(GENERATION):
            clock.sleep(20)
        with ledger.phase(TRAINING):
            clock.sleep(30)
            with ledger.phase(EVALUATION):
                clock.sleep(10)
        clock.sleep(2)
        ledger.write("step", step)
    ledger.write("end", 4)
    spending = read_spending(tmp_path)
    # The inner phase is taken out of the outer one: 1 + 3 x (20 + 30 + 10 + 2) = 187 seconds in all.
    assert spending.wall_seconds == {STARTUP: 1.0, GENERATION: 60.0, TRAINING: 90.0, EVALUATION: 30.0, IDLE: 6.0}
    assert spending.clock_seconds == 187.0
    assert spending.cost.device_seconds == 2 * (60 + 90 + 6)


def test_what_is_spent_so_far_holds_what_is_not_written_yet(tmp_path, clock):
    ledger = Ledger(tmp_path, devices=2, started_at=clock.now - 1.0)
    ledger.started()
    with ledger.phase("training"):
        clock.now += 3
    ledger.write("step", 1)
    with ledger.phase("training"):
        clock.now += 4
    with ledger.phase("evaluation"):
        clock.now += 50
        assert ledger.spent() == Cost(14.0, 7.0)


def test_start_up_ends_when_it_is_said_to(tmp_path, clock):
    ledger = Ledger(tmp_path, devices=1, started_at=clock.now - 5)
    clock.sleep(2)
    ledger.started()
    clock.sleep(1)
    ledger.write("step", 1)
    assert read_spending(tmp_path).wall_seconds == {STARTUP: 7.0, IDLE: 1.0}


def test_a_resumed_run_is_another_attempt_and_nothing_is_rewritten(tmp_path):
    first = Ledger(tmp_path, devices=1, started_at=time.time())
    first.write("step", 1)
    before = (tmp_path / LEDGER_FILE).read_bytes()
    second = Ledger(tmp_path, devices=1, started_at=time.time())
    assert (first.attempt, second.attempt) == (1, 2)
    assert (tmp_path / LEDGER_FILE).read_bytes().startswith(before)


def test_the_command_writes_down_how_long_it_took_to_end(tmp_path, clock):
    ledger = Ledger(tmp_path, devices=2, started_at=clock.now)
    clock.sleep(3)
    ledger.write("end", 4)
    before = read_spending(tmp_path)
    clock.sleep(4)
    close_ledger(tmp_path, started_at=1000.0, failed=False)
    after = read_spending(tmp_path)
    assert after.wall_seconds == {STARTUP: 7.0}
    assert after.cost == before.cost
    assert after.finished
    # Neither twice, nor for a command that never came to write an attempt.
    close_ledger(tmp_path, started_at=1000.0, failed=False)
    close_ledger(tmp_path, started_at=5.0, failed=True)
    assert len(read_json_lines(tmp_path / LEDGER_FILE)) == 3


def test_what_a_failed_attempt_spent_counts(tmp_path, clock):
    ledger = Ledger(tmp_path, devices=2, started_at=clock.now)
    ledger.started()
    ledger.write("step", 1)
    clock.sleep(4)
    close_ledger(tmp_path, started_at=1000.0, failed=True)
    spending = read_spending(tmp_path)
    assert (spending.cost.wall_seconds, spending.cost.device_seconds) == (4.0, 8.0)
    assert not spending.finished


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
