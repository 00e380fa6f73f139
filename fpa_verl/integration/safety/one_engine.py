"""One run with a rollout engine at a time on a machine, unless they share a Ray cluster.

verl names the socket between trainer and vLLM after Ray's job, and the first job of every cluster has the same name:
two runs with a cluster of their own each would take each other's weights, and wait for ever.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fpa_verl.errors import IntegrationError

LOCK = Path(tempfile.gettempdir()) / "fpa_verl_rollout_engine.lock"


@contextmanager
def engine_to_itself(folder: Path) -> Iterator[None]:
    """Hold this machine's rollout engines while the block runs; the kernel lets go of them if the process dies.

    Args:
        folder: where the run writes, for the message to whoever comes second.

    Raises:
        IntegrationError: another run has one; which.
    """
    try:
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        # Another user's file, whose runs are not known here.
        yield
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 4096, 0).decode(errors="replace").strip()
            raise IntegrationError(
                f"another run with a rollout engine is on this machine ({holder or 'it does not say which'}), and the "
                "two would take each other's weights: wait for its end, or let both join one Ray cluster (`ray start "
                "--head`, then RAY_ADDRESS=auto in front of each command)"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()}, {folder}".encode(), 0)
        with suppress(PermissionError):
            os.fchmod(lock, 0o666)
        yield
    finally:
        os.close(lock)
