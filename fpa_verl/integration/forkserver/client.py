"""What is started in the place of Python: `python client.py SOCKET ARGUMENTS`. It stands for the fork.

Of a worker of Ray's, ARGUMENTS are a script and its own; of a command, `-m MODULE` and its own.

It ends as the fork ends, and hands on signals to it; where it dies, the server ends the fork. Without a server, it
becomes the Python process that was wanted. Run as a bare file (`python -I -S`), so that it is there in no time.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

# Neither this package nor whatever else is installed is on the path.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from wire import Request, receive_number

PATIENCE_S = 60


def main(path: str, arguments: list[str]) -> NoReturn:
    connection = socket.socket(socket.AF_UNIX)
    # A server that still imports answers later, and one that cannot fork for us closes.
    connection.settimeout(PATIENCE_S)
    try:
        connection.connect(path)
        Request.mine(arguments).send(connection)
        process = receive_number(connection)
    except (OSError, EOFError):
        os.execv(sys.executable, [sys.executable, *arguments])
    connection.settimeout(None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: os.kill(process, received))
    try:
        status = receive_number(connection)
    except (OSError, EOFError):
        # The server is gone; Ray looks after its workers itself.
        status = 1
    if status < 0:
        with suppress(OSError):  # of a signal that nobody can catch
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(abs(status))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
