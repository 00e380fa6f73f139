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

from fpa_verl.report.runs import read_run
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
    middle, late = slice(len(processes) // 3, 2 * len(processes) // 3), slice(2 * len(processes) // 3, None)
    for (_, name), by_mark in memory.items():
        values = np.array(list(by_mark.values()))
        if len(values) == len(processes):
            growth = (values[late].mean() - values[middle].mean()) / MB
            print(f"{recipe}, {steps} steps: {growth:+7.1f} MB of {values[late].mean() / MB:7.0f}  {name}")
            assert growth < 0.03 * values[late].mean() / MB + 5, name
    for (_, name), by_mark in files.items():
        values = np.array(list(by_mark.values()))
        if len(values) == len(processes):
            assert values[late].max() <= values[middle].max() + 5, name
    counts = list(processes.values())
    assert max(counts[late]) <= max(counts[middle])
    segments = list(shared.values())
    assert max(segments[late]) <= 1.05 * max(segments[middle])
