"""Shared memory that a run's processes leave behind when Ray ends them: vLLM's and verl's, hundreds of megabytes a run.

Ray kills workers, and with them the processes that would have tidied up.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

FOLDER = Path("/dev/shm")
# Memory and semaphores of Python's multiprocessing, which vLLM uses; verl's buckets of weights.
PREFIXES = ("psm_", "sem.mp-", "verl_weights_")
LOOK_EVERY_S = 5.0
# For workers that have been told to end.
PATIENCE_S = 20.0


class Sweeper:
    """Notes which segments the processes that this one started have mapped, and removes those that they leave.

    On this machine alone: workers on other nodes of a cluster are nobody's children here.
    """

    def __init__(self) -> None:
        self._ours: dict[int, Path] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="shared memory", daemon=True)

    def __enter__(self) -> Sweeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        deadline = time.monotonic() + PATIENCE_S
        while self._ours and time.monotonic() < deadline:
            for inode in self._ours.keys() - _mapped(psutil.pids()):
                self._ours.pop(inode).unlink(missing_ok=True)
            time.sleep(0.2)

    def look(self) -> None:
        """Note what is mapped now."""
        mapped = _mapped([child.pid for child in psutil.Process().children(recursive=True)])
        self._ours |= {inode: path for inode, path in _segments().items() if inode in mapped}

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            self.look()


def _segments() -> dict[int, Path]:
    """All that may be a run's, by inode: a mapped semaphore goes by the name that it had while it was made."""
    found = {}
    for path in FOLDER.iterdir() if FOLDER.is_dir() else ():
        with suppress(FileNotFoundError):
            if path.name.startswith(PREFIXES):
                found[path.stat().st_ino] = path
    return found


def _mapped(processes: list[int]) -> set[int]:
    """Inodes in shared memory that one of these processes has mapped."""
    found = set()
    for process in processes:
        with suppress(OSError):
            maps = Path(f"/proc/{process}/maps").read_text(errors="replace")
            found |= {int(inode) for inode in re.findall(rf" (\d+) +{FOLDER}/", maps)}
    return found
