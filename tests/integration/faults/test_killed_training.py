"""Offline training that is killed, in every place that writes or computes."""

from __future__ import annotations

import pytest

from fpa_verl.files import read_json_lines
from fpa_verl.report.runs import read_run
from tests.integration.running import SMALL_BATCHES, WITHOUT_VALIDATION, metrics, offline

pytestmark = pytest.mark.slow

# 86 trajectories or so make 5 batches of 16: an epoch ends after step 5.
STEPS = 12
OVERRIDES = (
    *SMALL_BATCHES,
    *WITHOUT_VALIDATION,
    f"trainer.total_training_steps={STEPS}",
    "trainer.total_epochs=3",
)


def batches(run_dir):
    """Step to rows; of a step that was done twice, the rows of the last time."""
    return {record["step"]: record["rows"] for record in read_json_lines(run_dir / "batches.jsonl")}


def losses(run_dir, attempts):
    found = {}
    for attempt in range(1, attempts + 1):
        found.update(metrics(run_dir, attempt))
    return {step: values["actor/pg_loss"] for step, values in found.items()}


def done_steps(run_dir):
    return read_run(run_dir).spending.last_step if (run_dir / "run.json").exists() else 0


def test_two_kills_change_neither_batches_nor_losses(start, workspace, base_model):
    whole = offline(workspace, base_model, *OVERRIDES, "trainer.save_freq=1", f"run_dir={workspace}/whole")
    assert whole.returncode == 0, whole.stdout[-3000:] + whole.stderr[-3000:]
    run_dir = workspace / "killed"
    overrides = (*OVERRIDES, "trainer.save_freq=1", f"run_dir={run_dir}")
    for last in (5, 8):
        running = start("fpa_offline", *overrides)
        running.wait_until(lambda: done_steps(run_dir) >= last)  # noqa: B023
        running.kill_driver()
    done = offline(workspace, base_model, *overrides)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "goes on after step" in done.stdout
    assert batches(run_dir) == batches(workspace / "whole")
    assert set(batches(run_dir)) == set(range(1, STEPS + 1))
    one, other = losses(workspace / "whole", 1), losses(run_dir, 3)
    assert one.keys() == other.keys()
    for step in one:
        assert other[step] == pytest.approx(one[step], abs=1e-6), step
