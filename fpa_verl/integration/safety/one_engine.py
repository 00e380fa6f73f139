"""One run with a rollout engine at a time on a machine, unless they share a Ray cluster.

verl names the socket between trainer and vLLM after Ray's job, and the first job of every cluster has the same name:
two runs with a cluster of their own each would take each other's weights, and wait for ever.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fpa_verl.errors import IntegrationError

# Where verl's socket is, whatever TMPDIR says and whoever runs.
LOCK = Path("/tmp/fpa_verl_rollout_engine.lock")
ONE_CLUSTER = "let both join one Ray cluster (`ray start --head`, then RAY_ADDRESS=auto in front of each command)"


@contextmanager
def engine_to_itself(folder: Path) -> Iterator[None]:
    """Hold this machine's rollout engines while the block runs; the kernel lets go of them if the process dies.

    Args:
        folder: where the run writes, for the message to whoever comes second.

    Raises:
        IntegrationError: another run has one; which.
    """
    lock = _locked(fcntl.LOCK_EX)
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()}, {folder}".encode(), 0)
        yield
    finally:
        os.close(lock)


def require_no_other() -> None:
    """Look whether a run has one now.

    Raises:
        IntegrationError: it does; which.
    """
    # Shared: two that look at the same time do not find each other.
    os.close(_locked(fcntl.LOCK_SH))


def _locked(kind: int) -> int:
    lock = _opened()
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 4096, 0).decode(errors="replace").strip()
        os.close(lock)
        raise IntegrationError(
            f"another run with a rollout engine is on this machine ({holder or 'it does not say which'}), and the "
            f"two would take each other's weights: wait for its end, or {ONE_CLUSTER}"
        ) from None
    return lock


def _opened() -> int:
    """The file, open for everybody, made where it is missing."""
    try:
        try:
            made = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            # Without O_CREAT: with it the kernel refuses another user's file in /tmp (fs.protected_regular).
            return os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW)
        os.fchmod(made, 0o666)
        return made
    except OSError as error:
        raise IntegrationError(
            f"{LOCK} cannot be opened ({error.strerror}), which tells whether another run on this machine has a "
            f"rollout engine: have its owner delete it while nothing runs, or {ONE_CLUSTER}"
        ) from error
