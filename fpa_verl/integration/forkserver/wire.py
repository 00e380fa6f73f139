"""What client and server say to each other, over a Unix socket; standard library alone, for the client is a bare file.

A request: its length, then JSON, and with the first bytes the client's standard input, output and error. Answers are
numbers: the process id of the fork, and its exit status when it has ended. A connection that closes without one means
that whoever was at its other end is dead.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import asdict, dataclass

STANDARD_STREAMS = (0, 1, 2)
MODULE = "-m"
_NUMBER = struct.Struct("!q")


@dataclass(frozen=True)
class Request:
    """A Python process that is wanted.

    Attributes:
        arguments: a script and its arguments, or `-m`, a module and its arguments.
        environment: variables.
        folder: it works there.
        group: of processes, to belong to; 0: one of its own.
    """

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    group: int

    @classmethod
    def mine(cls, arguments: list[str]) -> Request:
        """One like the calling process, with other arguments.

        A module is a command, to which the calling process hands on Ctrl-C: in its group it would have that twice.
        """
        return cls(arguments, dict(os.environ), os.getcwd(), 0 if arguments[0] == MODULE else os.getpgrp())

    def send(self, connection: socket.socket) -> None:
        """Hand it over together with the standard streams."""
        text = json.dumps(asdict(self)).encode()
        socket.send_fds(connection, [_NUMBER.pack(len(text))], list(STANDARD_STREAMS))
        connection.sendall(text)

    @classmethod
    def receive(cls, connection: socket.socket) -> tuple[Request, list[int]]:
        """It, and the streams of whoever sent it.

        Raises:
            EOFError: the other end closed in the middle of it.
        """
        head, streams, _, _ = socket.recv_fds(connection, _NUMBER.size, len(STANDARD_STREAMS))
        (length,) = _NUMBER.unpack(head + _exactly(connection, _NUMBER.size - len(head)))
        return cls(**json.loads(_exactly(connection, length))), streams


def send_number(connection: socket.socket, number: int) -> None:
    """Raises OSError where nobody listens any more."""
    connection.sendall(_NUMBER.pack(number))


def receive_number(connection: socket.socket) -> int:
    """Raises EOFError where the other end closed."""
    (number,) = _NUMBER.unpack(_exactly(connection, _NUMBER.size))
    return int(number)


def _exactly(connection: socket.socket, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        part = connection.recv(length - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts
