from __future__ import annotations

import time

import pytest

from fpa_verl.files import append_json_line, read_json_lines
from fpa_verl.report.ledger import EVALUATION, GENERATION, LEDGER_FILE, OTHER, STARTUP, TRAINING, Ledger


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
    assert seconds[OTHER] < 0.2


def test_a_resumed_run_is_another_attempt_and_nothing_is_rewritten(tmp_path):
    first = Ledger(tmp_path, devices=1, started_at=time.time())
    first.write("step", 1)
    before = (tmp_path / LEDGER_FILE).read_bytes()
    second = Ledger(tmp_path, devices=1, started_at=time.time())
    assert (first.attempt, second.attempt) == (1, 2)
    assert (tmp_path / LEDGER_FILE).read_bytes().startswith(before)


def test_a_torn_last_line_is_left_out(tmp_path):
    append_json_line(tmp_path / "x.jsonl", {"a": 1})
    with open(tmp_path / "x.jsonl", "a") as handle:
        handle.write('{"a": 2')
    assert read_json_lines(tmp_path / "x.jsonl") == [{"a": 1}]
