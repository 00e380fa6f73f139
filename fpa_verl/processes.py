"""Children that do not outlive who started them, however that ends."""

from __future__ import annotations

import ctypes
import signal
import sys

# linux/prctl.h
PR_SET_PDEATHSIG = 1

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent() -> None:
    """As `preexec_fn` of a child: Linux sends it SIGTERM when the parent is gone, killed or not; others do nothing."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
