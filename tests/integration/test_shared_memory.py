from __future__ import annotations

import subprocess
import sys
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from fpa_verl.integration.safety import shared_memory
from fpa_verl.integration.safety.shared_memory import Sweeper

HOLDS_ONE = """
import time
from multiprocessing import get_context, resource_tracker
from multiprocessing.shared_memory import SharedMemory
segment, lock = SharedMemory(create=True, size=4096), get_context("spawn").Lock()
resource_tracker.unregister(segment._name, "shared_memory")
resource_tracker.unregister(lock._semlock.name, "semaphore")
print(segment.name, "sem." + lock._semlock.name[1:], flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(shared_memory, "PATIENCE_S", 1.0)


@pytest.fixture
def child():
    """A process that holds memory and a semaphore and will not tidy up."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS_ONE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    left = [Path("/dev/shm") / name for name in process.stdout.readline().split()]
    assert all(path.exists() for path in left)
    yield process, left
    process.kill()
    process.wait()
    for path in left:
        path.unlink(missing_ok=True)


def test_what_a_killed_child_leaves_is_removed(child):
    process, left = child
    with Sweeper() as sweeper:
        sweeper.look()
        process.kill()
        process.wait()
        assert all(path.exists() for path in left)
    assert not any(path.exists() for path in left)


def test_what_is_still_held_and_what_is_not_a_childs_stays(child):
    _, held = child
    other = SharedMemory(create=True, size=4096)
    other.close()
    with Sweeper() as sweeper:
        sweeper.look()
    assert all(path.exists() for path in held)
    assert (Path("/dev/shm") / other.name).exists()
    other.unlink()
