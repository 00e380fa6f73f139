"""Shared memory that a run's processes leave behind when Ray ends them: vLLM's and verl's, hundreds of megabytes a run.

Ray kills workers, and with them the processes that would have tidied up. Segments are told by their names and by nobody
having them mapped any more.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = Path("/dev/shm")
# Python's multiprocessing, which vLLM uses; verl's buckets of weights.
PREFIXES = ("psm_", "verl_weights_")
# For workers that have been told to end.
PATIENCE_S = 20.0


@contextmanager
def swept() -> Iterator[None]:
    """Remove the segments that came while the block ran, once no process has them mapped."""
    before = _segments()
    try:
        yield
    finally:
        deadline = time.monotonic() + PATIENCE_S
        while (left := _segments() - before) and time.monotonic() < deadline:
            for segment in left - _mapped():
                with suppress(FileNotFoundError):
                    segment.unlink()
            time.sleep(0.2)


def _segments() -> set[Path]:
    """Segments of this user that may be a run's."""
    if not FOLDER.is_dir():
        return set()
    found = set()
    for path in FOLDER.iterdir():
        with suppress(FileNotFoundError):
            if path.name.startswith(PREFIXES) and path.stat().st_uid == os.getuid():
                found.add(path)
    return found


def _mapped() -> set[Path]:
    """Segments that a process has mapped; other users' processes cannot have those of this one."""
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            found |= {Path(name) for name in re.findall(rf"{FOLDER}/\S+", maps.read_text(errors="replace"))}
    return found
