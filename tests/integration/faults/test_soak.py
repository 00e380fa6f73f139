"""Thousands of steps: memory, processes, files and shared memory stay what they were.

`FPA_VERL_SOAK=1.0` runs them all (an hour or so on two cores); a smaller number that share of them.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil
import pytest

from fpa_verl.runs.run import read_run
from tests.integration.faults.conftest import title
from tests.integration.running import SMALL_BATCHES, WITHOUT_VALIDATION

SHARE = float(os.environ.get("FPA_VERL_SOAK", "0"))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SHARE, reason="FPA_VERL_SOAK is not set: docs/faults.md")]

GRPO = ("scale.online.prompts=4", "scale.rollouts_per_problem=4", "trainer.total_epochs=100000")
MB = 1e6


def watched(running):
    """What each process holds now: resident bytes and open files."""
    found = {}
    for process in [psutil.Process(running.process.pid), *running.descendants()]:
        try:
            found[process.pid] = (title(process)[:60], process.memory_info().rss, process.num_fds())
        except psutil.Error:
            continue
    return found


def shared_bytes():
    return sum(path.stat().st_size for path in Path("/dev/shm").iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("recipe", "steps", "overrides"),
    [
        ("fpa_offline", 5000, (*SMALL_BATCHES, "trainer.total_epochs=100000", "actor_rollout_ref.actor.optim.lr=1e-6")),
        ("grpo_baseline", 500, GRPO),
    ],
)
def test_nothing_grows(start, workspace, recipe, steps, overrides):
    steps = int(steps * SHARE)
    run_dir = workspace / f"{recipe}_soak"
    running = start(
        recipe,
        *overrides,
        *WITHOUT_VALIDATION,
        f"trainer.total_training_steps={steps}",
        f"trainer.save_freq={steps // 20}",
        f"run_dir={run_dir}",
    )
    memory, files, processes, shared = defaultdict(dict), defaultdict(dict), {}, {}

    def look():
        step = read_run(run_dir).spending.last_step if (run_dir / "run.json").exists() else 0
        if step // (steps // 60 or 1) > max(processes, default=-1):
            mark = step // (steps // 60 or 1)
            now = watched(running)
            processes[mark], shared[mark] = len(now), shared_bytes()
            for pid, (name, resident, open_files) in now.items():
                memory[pid, name][mark], files[pid, name][mark] = resident, open_files
        return step >= steps - steps // 60

    running.wait_until(look, patience_s=4 * 3600, every_s=1.0)
    assert running.ended() == 0
    # The first third is warming up: allocators, caches, thread pools.
    marks = sorted(processes)
    middle, late = marks[len(marks) // 3 : 2 * len(marks) // 3], marks[2 * len(marks) // 3 :]
    growth = {}
    for process, by_mark in memory.items():
        if by_mark.keys() >= {*middle, *late}:
            before, after = (np.mean([by_mark[mark] for mark in part]) / MB for part in (middle, late))
            growth[process] = (after - before, after)
    for (pid, name), (grown, after) in sorted(growth.items(), key=lambda item: -item[1][0]):
        print(f"{recipe}, {steps} steps: {grown:+7.1f} MB of {after:7.0f}  {pid} {name}")
    assert len(growth) > 5, "Ray's, verl's and ours"
    for (_, name), (grown, after) in growth.items():
        assert grown < 0.03 * after + 5, name
    for process in growth:
        before, after = (max(files[process][mark] for mark in part) for part in (middle, late))
        assert after <= before + 5, process
    assert max(processes[mark] for mark in late) <= max(processes[mark] for mark in middle)
    assert max(shared[mark] for mark in late) <= 1.05 * max(shared[mark] for mark in middle)
