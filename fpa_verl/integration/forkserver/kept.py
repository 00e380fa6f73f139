"""Servers that stay for the runs after the one that started them, and those runs forked from them as well.

Whoever starts several runs, one after the other, opens `kept_servers()` around them. The first run leaves its server in
the folder that an environment variable names; a later one is forked from it, and so are its workers. What none can be
forked for is an ordinary process.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

FOLDER = "FPA_VERL_FORKSERVERS"
# A fifo in the folder, whose end for writing is held by who keeps the servers: their standard input.
KEEPER = "keeper"
CLIENT = Path(__file__).with_name("client.py")

# What this process was forked to be: the arguments of Python. None: it was not.
forked_as: list[str] | None = None


@contextmanager
def socket_folder() -> Iterator[Path]:
    """A temporary one. As for Ray's own: the name of a socket has 108 bytes, of which a TMPDIR may leave too few."""
    with tempfile.TemporaryDirectory(prefix="fpa_verl_", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def kept_servers() -> Iterator[None]:
    """While the block runs, commands that are started in it (`words_of`) share a server."""
    with socket_folder() as folder:
        fifo = folder / KEEPER
        os.mkfifo(fifo)
        # For reading as well, or it would wait for a reader.
        keeper = os.open(fifo, os.O_RDWR)
        before = os.environ.get(FOLDER)
        os.environ[FOLDER] = str(folder)
        try:
            yield
        finally:
            os.close(keeper)
            os.environ.pop(FOLDER)
            if before is not None:
                os.environ[FOLDER] = before


def words_of(arguments: list[str]) -> list[str]:
    """What starts Python with these arguments (`-m MODULE ...`): a fork of a server, where one is kept."""
    folder = os.environ.get(FOLDER)
    sockets = sorted(Path(folder).glob("*.socket")) if folder else []
    client = ["-I", "-S", str(CLIENT), str(sockets[0])] if sockets else []
    return [sys.executable, *client, *arguments]


def socket_for(environment: Mapping[str, str]) -> Path | None:
    """Where the server is, or is to be, that imports with these variables; None: servers are not kept, or not here."""
    folder = os.environ.get(FOLDER)
    if not folder or not Path(folder).is_dir():
        return None
    name = hashlib.sha256(json.dumps(sorted(environment.items())).encode()).hexdigest()[:16]
    return Path(folder) / f"{name}.socket"


def keepers_pipe(socket: Path) -> IO[bytes]:
    """Standard input of a server that is to stay: it ends with who keeps it."""
    # Without waiting for a writer: where none is left, it is at its end at once.
    return open(os.open(socket.with_name(KEEPER), os.O_RDONLY | os.O_NONBLOCK), "rb")


def become_ordinary() -> NoReturn:
    """Start anew as what this process was forked to be, without what the server had imported."""
    assert forked_as is not None
    os.execv(sys.executable, [sys.executable, *forked_as])
