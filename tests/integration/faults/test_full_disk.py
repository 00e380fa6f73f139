"""A run directory on a file system that fills up."""

from __future__ import annotations

import subprocess

import pytest

from fpa_verl.runs.run import read_run
from tests.integration.running import WITHOUT_VALIDATION, offline

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB, which can be made larger."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_full_disk_is_named_and_the_run_goes_on_with_room(small_disk, workspace, base_model):
    overrides = (
        "trainer.total_training_steps=6",
        "trainer.total_epochs=3",
        "trainer.save_freq=1",
        "trainer.max_actor_ckpt_to_keep=100",
        f"run_dir={small_disk}/run",
        *WITHOUT_VALIDATION,
    )
    done = offline(workspace, base_model, *overrides)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "disk" in last, last
    reached = read_run(small_disk / "run").spending.last_step
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    done = offline(workspace, base_model, *overrides)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert ("goes on after step" in done.stdout) or reached == 0
    assert read_run(small_disk / "run").finished
