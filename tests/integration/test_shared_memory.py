from __future__ import annotations

import subprocess
import sys
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from fpa_verl.integration import shared_memory
from fpa_verl.integration.shared_memory import Sweeper

HOLDS_ONE = """
import sys, time
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
segment = SharedMemory(create=True, size=4096)
resource_tracker.unregister(segment._name, "shared_memory")
print(segment.name, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(shared_memory, "PATIENCE_S", 1.0)


@pytest.fixture
def child():
    """A process that holds a segment and will not tidy up."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS_ONE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    segment = Path("/dev/shm") / process.stdout.readline().strip()
    assert segment.exists()
    yield process, segment
    process.kill()
    process.wait()
    segment.unlink(missing_ok=True)


def test_what_a_killed_child_leaves_is_removed(child):
    process, segment = child
    with Sweeper() as sweeper:
        sweeper.look()
        process.kill()
        process.wait()
        assert segment.exists()
    assert not segment.exists()


def test_what_is_still_held_and_what_is_not_a_childs_stays(child):
    _, held = child
    other = SharedMemory(create=True, size=4096)
    other.close()
    with Sweeper() as sweeper:
        sweeper.look()
    assert held.exists()
    assert (Path("/dev/shm") / other.name).exists()
    other.unlink()
