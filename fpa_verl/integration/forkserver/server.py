"""The process that workers and commands are forked from: `python -m fpa_verl.integration.forkserver.server LISTENER`.

It imports (`imports.py`), waits for clients, and ends when its standard input does, which whoever keeps it holds. A
fork copies one thread only, and what Ray reads of its environment it reads while it is imported: where either would go
wrong the server refuses, and each client becomes an ordinary process.
"""

from __future__ import annotations

import atexit
import gc
import os
import random
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from fpa_verl.integration.forkserver import kept
from fpa_verl.integration.forkserver.imports import load
from fpa_verl.integration.forkserver.wire import MODULE, STANDARD_STREAMS, Request, send_number


@dataclass(frozen=True)
class Fork:
    """A process of ours, and the connection to the client that stands for it."""

    process: int
    ended: int
    client: socket.socket


class ForkServer:
    """Answers clients until standard input ends.

    Args:
        listener: where they knock.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._forks: dict[int, Fork] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(sys.stdin, selectors.EVENT_READ)

    def serve(self) -> Request | None:
        """In a forked process: what that is to become. None in the server's own, at its end."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is sys.stdin:
                    return None
                if key.fileobj is self._listener:
                    if request := self._answer(self._listener.accept()[0]):
                        return request
                elif key.data.process in self._forks:
                    self._end(key.data)

    def _answer(self, client: socket.socket) -> Request | None:
        try:
            request, streams = Request.receive(client)
        except (OSError, EOFError):
            client.close()
            return None
        process = os.fork()
        if not process:
            self._leave(client)
            take(streams)
            join_group(request.group)
            return request
        for stream in streams:
            os.close(stream)
        fork = self._forks[process] = Fork(process, os.pidfd_open(process), client)
        self._selector.register(fork.ended, selectors.EVENT_READ, fork)
        self._selector.register(client, selectors.EVENT_READ, fork)
        with suppress(OSError):
            send_number(client, process)
        return None

    def _end(self, fork: Fork) -> None:
        """A fork that has ended, or whose client has."""
        del self._forks[fork.process]
        ended, status = os.waitpid(fork.process, os.WNOHANG)
        if not ended:
            with suppress(ProcessLookupError):
                os.kill(fork.process, signal.SIGKILL)
            _, status = os.waitpid(fork.process, 0)
        with suppress(OSError):
            send_number(fork.client, os.waitstatus_to_exitcode(status))
        for one in (fork.ended, fork.client):
            self._selector.unregister(one)
        os.close(fork.ended)
        fork.client.close()

    def _leave(self, client: socket.socket) -> None:
        """Close in a fork what is the server's."""
        self._selector.close()
        for one in (self._listener, client, *(fork.client for fork in self._forks.values())):
            one.close()
        for fork in self._forks.values():
            os.close(fork.ended)


def take(streams: Sequence[int]) -> None:
    """Have the client's standard streams for one's own."""
    for target, stream in zip(STANDARD_STREAMS, streams, strict=True):
        os.dup2(stream, target)
        os.close(stream)


def join_group(group: int) -> None:
    """Be in the client's process group, as who it stands for: Ctrl-C in a terminal is for the command alone."""
    try:
        os.setpgid(0, group)
    except OSError:
        # Of another session.
        os.setpgid(0, 0)


def become(request: Request) -> None:
    """Run what was asked for, as if Python had been started with it."""
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    kept.forked_as = request.arguments
    if request.arguments[0] == MODULE:
        sys.argv[:] = request.arguments[1:]
        sys.path[0] = request.folder
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return
    script = request.arguments[0]
    sys.argv[:] = request.arguments
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")


def threads() -> int:
    """Of this process, those of libraries included."""
    return len(os.listdir("/proc/self/task"))


def require_forkable() -> None:
    """Raise RuntimeError where a fork would be unlike the process that was wanted."""
    if (count := threads()) > 1:
        raise RuntimeError(f"{count} threads after all imports: a fork would have one of them")
    if "ray" in sys.modules:
        raise RuntimeError("something imports Ray: forks would have the server's job and raylet")


def main(listener: socket.socket) -> None:
    """Import, then fork for whoever asks.

    Raises:
        RuntimeError: it must not fork; clients that wait are answered by the closing of their connection.
    """
    os.setpgid(0, 0)
    with listener:
        load()
        require_forkable()
        # Garbage collections of the forks leave alone what they share.
        gc.collect()
        gc.freeze()
        # Of the server and of forks: what is frozen at the end is a leak to extensions that look for them.
        atexit.register(gc.unfreeze)
        request = ForkServer(listener).serve()
    if request is not None:
        become(request)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
