"""One run with a rollout engine at a time on a machine, unless they share a Ray cluster.

verl names the socket between trainer and vLLM after Ray's job, and the first job of every cluster has the same name:
two runs with a cluster of their own each would take each other's weights, and wait for ever.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fpa_verl.errors import IntegrationError

# Where verl's socket is, whatever TMPDIR says and whoever runs.
LOCK = Path("/tmp/fpa_verl_rollout_engine.lock")
ONE_CLUSTER = (
    "have each of them join one Ray cluster, the first started anew as well (`ray start --head`, then RAY_ADDRESS=auto "
    "in front of each command)"
)
# Somebody who looks holds the lock for an instant, and is not to be taken for a run.
LOOKS, BETWEEN_LOOKS_S = 5, 0.1


@contextmanager
def engine_held(folder: Path, *, joined: bool = False) -> Iterator[None]:
    """Hold this machine's rollout engines while the block runs; the kernel lets go of them if the process dies.

    Args:
        folder: where the run writes, for the message to whoever comes second.
        joined: it joins a Ray cluster, and shares with others that do.

    Raises:
        IntegrationError: another run has one, with a cluster of its own or of which this one is no part; which.
    """
    lock = _locked(joined)
    try:
        # Of several that share, the last to start is known.
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()}, {folder}".encode(), 0)
        yield
    finally:
        os.close(lock)


def require_free(*, joined: bool = False) -> None:
    """Look whether a run now has one that a run of this kind cannot be beside.

    Raises:
        IntegrationError: it does; which.
    """
    os.close(_locked(joined))


def _locked(joined: bool) -> int:
    lock = _opened()
    for _ in range(LOOKS):
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if joined else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            time.sleep(BETWEEN_LOOKS_S)
    holder = os.pread(lock, 4096, 0).decode(errors="replace").strip()
    os.close(lock)
    raise IntegrationError(
        f"another run with a rollout engine is on this machine ({holder or 'it does not say which'}), and the "
        f"two, in two Ray clusters, would take each other's weights: wait for its end, or {ONE_CLUSTER}"
    )


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
