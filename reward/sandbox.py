"""Child processes that grade answers and can be killed.

The wall-clock limit starts when a child takes the answer, not when the answer is queued; a child
that hangs or dies is replaced; no answer gets a verdict without having run.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from queue import LifoQueue

GRADE_TIMEOUT_S = 10.0
# Importing sympy and math-verify on a busy machine.
START_TIMEOUT_S = 120.0
POOL_SIZE = max(1, min(4, os.cpu_count() or 1))


class Grader:
    """One child process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fpa_verl.reward.grader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C is the parent's to handle; the child ends when its standard input closes.
            start_new_session=True,
        )
        if self._read_line(START_TIMEOUT_S) != "ready":
            self.close()
            raise RuntimeError(
                "the scorer's child process did not start: try `python -m fpa_verl.reward.grader`, which prints 'ready'"
            )

    def _read_line(self, timeout_s: float) -> str | None:
        """One line without its end; None on time-out, '' where the child has died."""
        assert self._process.stdout is not None
        descriptor, deadline, line = self._process.stdout.fileno(), time.monotonic() + timeout_s, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            piece = os.read(descriptor, 4096)
            if not piece:
                return ""
            line += piece
        return line.decode().strip()

    def grade(self, answer: str, ground_truth: str, timeout_s: float) -> str:
        """A status; after timeout or error the child is gone and must be replaced."""
        assert self._process.stdin is not None
        try:
            question = json.dumps({"answer": answer, "ground_truth": ground_truth}) + "\n"
            self._process.stdin.write(question.encode())
            self._process.stdin.flush()
            reply = self._read_line(timeout_s)
        except BrokenPipeError:
            reply = ""
        if reply:
            return reply
        self.close()
        return "timeout" if reply is None else "error"

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class GraderPool:
    """Up to `size` children, started when first needed, shared by any number of threads."""

    def __init__(self, size: int = POOL_SIZE) -> None:
        self._idle: LifoQueue[Grader | None] = LifoQueue()
        for _ in range(size):
            self._idle.put(None)

    def grade(self, *, answer: str, ground_truth: str, timeout_s: float = GRADE_TIMEOUT_S) -> str:
        """Wait for a free child, however long that takes, and let it grade for at most `timeout_s`."""
        grader = self._idle.get()
        try:
            if grader is None or not grader.alive:
                grader = Grader()
            return grader.grade(answer, ground_truth, timeout_s)
        finally:
            self._idle.put(grader if grader is not None and grader.alive else None)

    def close(self) -> None:
        while not self._idle.empty():
            if (grader := self._idle.get_nowait()) is not None:
                grader.close()


_pool: GraderPool | None = None
_pool_pid: int | None = None
_pool_lock = threading.Lock()


def default_pool() -> GraderPool:
    """The pool of this process; a forked child makes its own."""
    global _pool, _pool_pid
    with _pool_lock:
        if _pool is None or _pool_pid != os.getpid():
            _pool, _pool_pid = GraderPool(), os.getpid()
            atexit.register(_pool.close)
        return _pool
