"""Child processes that grade answers and can be killed.

An answer has so much processor time, and is wrong where that does not do, because what it says makes it so. It is a
timeout where the machine did not give it that time. The wall-clock limit starts when a child takes the answer, not when
the answer is queued; a child that hangs or dies is replaced; no answer gets a verdict without having run.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from queue import LifoQueue

GRADE_TIMEOUT_S = 30.0
# Of processor time. What a ground truth takes alone must leave some for the answers to it.
GROUND_TRUTH_CPU_LIMIT_S, CPU_LIMIT_S = 3.0, 6.0
# Importing sympy and math-verify on a busy machine.
START_TIMEOUT_S = 120.0
GRADER_COMMAND = (sys.executable, "-m", "fpa_verl.reward.grader")
POOL_SIZE = max(1, min(4, os.cpu_count() or 1))


class ChildDiedError(RuntimeError):
    """The child ended, or was ended, before it had answered."""


class Grader:
    """One child process. Used by one thread at a time."""

    def __init__(self, command: Sequence[str] = GRADER_COMMAND) -> None:
        self._asked = 0
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Nothing may linger in a buffer that a fork would copy.
            bufsize=0,
            # Ctrl-C is the parent's to handle; the child ends when its standard input closes.
            start_new_session=True,
        )
        try:
            is_ready = self._read_line(START_TIMEOUT_S) == "ready"
        except BaseException:
            self.close()
            raise
        if not is_ready:
            self.close()
            raise RuntimeError(
                "the scorer's child process did not start: try `python -m fpa_verl.reward.grader`, which prints 'ready'"
            )

    def _read_line(self, timeout_s: float) -> str | None:
        """One line without its end; None on time-out, '' where the child has died."""
        assert self._process.stdout is not None
        descriptor, deadline, line = self._process.stdout.fileno(), time.monotonic() + timeout_s, b""
        poll = select.poll()  # select() cannot watch descriptors above 1,023
        poll.register(descriptor, select.POLLIN)
        while not line.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            piece = os.read(descriptor, 4096)
            if not piece:
                return ""
            line += piece
        return line.decode().strip()

    def _write_line(self, line: str) -> None:
        assert self._process.stdin is not None
        rest = memoryview(line.encode() + b"\n")
        while rest:
            rest = rest[os.write(self._process.stdin.fileno(), rest) :]

    def grade(self, answer: str, ground_truth: str, timeout_s: float, cpu_limit_s: float) -> str:
        """A status. After a timeout, or where the processor time was used up, the child is gone and must be replaced.

        Raises:
            ChildDiedError: it did not answer and did not run out of time.
        """
        self._asked += 1
        question = {
            "number": self._asked,
            "answer": answer,
            "ground_truth": ground_truth,
            "timeout_s": timeout_s,
            "cpu_limit_s": cpu_limit_s,
        }
        try:
            self._write_line(json.dumps(question))
            line = self._read_line(timeout_s)
            if line is None:
                self.close()
                return "timeout"
            reply = json.loads(line) if line else {}
        except BrokenPipeError:
            reply = {}
        except BaseException:
            # Ctrl-C, say: a reply that comes after all would be taken for that to the next question.
            self.close()
            raise
        if reply.get("number") != self._asked:
            # Where it has not ended by itself, it is killed.
            self.close()
            if self._process.returncode == -signal.SIGPROF:
                return "wrong"
            raise ChildDiedError
        if reply["status"] == "error":
            # What is left of the memory it took, or of the state it broke, is nobody else's.
            self.close()
        return str(reply["status"])

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

    def __init__(self, size: int = POOL_SIZE, command: Sequence[str] = GRADER_COMMAND) -> None:
        self._command = command
        self._idle: LifoQueue[Grader | None] = LifoQueue()
        for _ in range(size):
            self._idle.put(None)

    def grade(
        self, *, answer: str, ground_truth: str, timeout_s: float = GRADE_TIMEOUT_S, cpu_limit_s: float = CPU_LIMIT_S
    ) -> str:
        """Wait for a free child, however long that takes, and let it grade for at most `timeout_s`.

        An answer whose child died is tried once more, in a new one: somebody else may have killed the first.
        """
        grader = self._idle.get()
        try:
            for _ in range(2):
                if grader is None or not grader.alive:
                    grader = Grader(self._command)
                with contextlib.suppress(ChildDiedError):
                    return grader.grade(answer, ground_truth, timeout_s, cpu_limit_s)
            return "error"
        finally:
            self._idle.put(grader if grader is not None and grader.alive else None)

    def close(self) -> None:
        while not self._idle.empty():
            if (grader := self._idle.get_nowait()) is not None:
                grader.close()


_pool: GraderPool | None = None
_pool_lock = threading.Lock()


def default_pool() -> GraderPool:
    """The pool of this process; a forked child makes its own."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = GraderPool()
            atexit.register(_pool.close)
        return _pool


def _after_fork_in_child() -> None:
    """The parent's children stay the parent's, and its lock may be held by a thread that is not here."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
