"""Ctrl-C: a run ends by itself and leaves nothing behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from fpa_verl.runs.run import read_run
from tests.integration.faults.conftest import RAY_AGENTS, title

pytestmark = pytest.mark.slow

GRPO = ("scale.online.prompts=4", "scale.rollouts_per_problem=4", "trainer.val_before_train=false")
OFFLINE = ("data.train_batch_size=16", "trainer.total_epochs=99", "trainer.val_before_train=false")


def shared_memory():
    return {path.name for path in Path("/dev/shm").iterdir()}


@pytest.mark.parametrize(("recipe", "overrides"), [("fpa_offline", OFFLINE), ("grpo_baseline", GRPO)])
def test_ctrl_c_leaves_nothing_behind(start, workspace, recipe, overrides):
    before = shared_memory()
    run_dir = workspace / f"{recipe}_interrupted"
    running = start(recipe, *overrides, "trainer.total_training_steps=100", f"run_dir={run_dir}")
    running.wait_until(lambda: (run_dir / "run.json").exists() and read_run(run_dir).spending.last_step >= 2)
    started = [process for process in running.descendants() if not title(process).startswith(RAY_AGENTS)]
    # A terminal sends it to the whole group.
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.ended(timeout_s=90) == 130
    assert "interrupted. The same command goes on with what is whole." in running.output
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive, [title(process) for process in alive]
    assert shared_memory() <= before
