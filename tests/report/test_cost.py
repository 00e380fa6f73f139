"""Where the device-time went, on ledgers with known sums."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.files import append_json_line
from fpa_verl.report.comparisons import cost
from fpa_verl.runs.find import find_runs
from tests.runs.directories import make_run

DATASET = {
    "fingerprint": "d",
    "device_seconds": 3600.0,
    "cost": {"device": "H", "devices": 2, "device_seconds": {"generation": 3000.0, "idle": 600.0}},
    "counts": {"response_tokens": 60_000},
}


def add(run, step, seconds, attempt=1, **record):
    append_json_line(
        run / "ledger.jsonl",
        {"kind": "step", "time": 0, "attempt": attempt, "step": step, "seconds": seconds, **record},
    )


def costs(folder):
    return cost.compare(find_runs([folder]))


def test_phases_rates_and_what_is_missing(tmp_path):
    make_run(tmp_path / "a", [1, 2], dataset=DATASET)
    add(tmp_path / "a", 2, {"training": 100.0, "weight_sync": 50.0}, tokens=200_000, peak_memory_gb=70.5)
    add(tmp_path / "a", 3, {"training": 0.0}, tokens=100_000, peak_memory_gb=69.0)
    (found,) = costs(tmp_path).costs
    # Training: (900 + 100) s on 2 devices.
    assert found.training_device_seconds == 2000
    assert found.training_rate == 300_000 / 2000
    assert found.generation_rate == 60_000 / 3000
    assert found.peak_memory_gb == 70.5
    assert found.missing == []
    # Device-hours: 3600 / 3600, 2000 / 3600, 100 / 3600 and 20,000 / 3600; a phase that never was is no zero.
    rows = costs(tmp_path).phase_table().rows
    assert rows == [["a", "1.00", "?", "?", "0.56", "0.03", "?", "?", "?", "5.56"]]


def test_of_searched_trees_all_tokens_that_were_sampled_are_counted(tmp_path):
    """And not those of the few steps that train."""
    make_run(tmp_path / "a", [1, 2], dataset={**DATASET, "trees": "t", "sampled_tokens": 300_000})
    (found,) = costs(tmp_path).costs
    assert found.generation_rate == 300_000 / 3000


def test_missing_parts_are_named(tmp_path):
    make_run(tmp_path / "a", [1, 2], dataset={"fingerprint": "d", "device_seconds": 0.0, "cost": {}})
    assert costs(tmp_path).notes() == [
        "a has no record of the cost of its data, tokens generated, time of generation, tokens trained on, peak memory"
    ]
    row = costs(tmp_path).rate_table().rows[0]
    assert row == ["a", "2", "?", "?", "?", "?", "?"]


def test_tokens_of_an_online_run_from_its_metrics(tmp_path):
    run = make_run(tmp_path / "grpo", [1], recipe="grpo_baseline")
    for step, tokens in ((1, 400), (2, 800)):
        data = {"perf/total_num_tokens": tokens, "response_length/mean": 30.0, "prompt_length/mean": 10.0}
        append_json_line(run / "metrics.1.jsonl", {"step": step, "data": data})
    add(run, 1, {"generation": 45.0})
    (found,) = costs(tmp_path).costs
    # 3/4 of 1,200 tokens are response; 45 s on 2 devices.
    assert found.generated_tokens == pytest.approx(900)
    assert found.generation_rate == pytest.approx(10)
    # A count in the ledger goes before what metrics tell.
    add(run, 2, {"generation": 0.0}, generated_tokens=450)
    assert costs(tmp_path).costs[0].generation_rate == pytest.approx(5)


def test_attempts_with_other_numbers_of_devices(tmp_path):
    run = make_run(tmp_path / "a", [1, 2])
    append_json_line(run / "ledger.jsonl", {"kind": "attempt", "time": 0, "attempt": 2, "devices": 4})
    add(run, 2, {"training": 10.0}, attempt=2)
    found = costs(tmp_path)
    assert found.costs[0].training_device_seconds == 2 * 900 + 4 * 10
    assert found.rate_table().rows[0][1] == "2 or 4"


def test_phases_that_leave_the_clock_uncovered_are_said(tmp_path):
    run = make_run(tmp_path / "a", [])
    (run / "ledger.jsonl").unlink()
    append_json_line(
        run / "ledger.jsonl", {"kind": "attempt", "time": 105.0, "attempt": 1, "devices": 1, "started_at": 100.0}
    )
    append_json_line(
        run / "ledger.jsonl", {"kind": "end", "time": 200.0, "attempt": 1, "step": 1, "seconds": {"training": 90.0}}
    )
    assert "a: its phases add up to 90 s of 100 s on the clock" in costs(tmp_path).notes()


def test_other_devices_are_never_added_up(tmp_path):
    make_run(tmp_path / "a", [1])
    make_run(tmp_path / "b", [1], hardware={"devices": 2, "device": "A100"})
    with pytest.raises(MismatchError, match="their kind of device differs"):
        costs(tmp_path)
    with pytest.raises(DatasetError, match="no runs"):
        cost.compare([])


def test_command_draws_a_run_that_was_never_evaluated(tmp_path):
    make_run(tmp_path / "a", [])
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--compare", "cost"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report" / "cost.svg").read_text().startswith("<?xml")
    (run,) = json.loads((tmp_path / "report" / "cost.json").read_text())["runs"]
    assert run["device_seconds"]["training"] is None
