"""What whoever typed a command sees of it: its own lines and how far it is. All else that is printed goes to log.txt.

Standard output and error of the command's process are turned to the log, and with them what Ray hands on of its
workers. The terminal is kept aside; a thread reads from the log the lines that are for the user (`say`), and from the
files that the command writes how far it is. A command that is killed leaves a log that is whole up to then.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from rich.console import Console

from fpa_verl.bar import Show, bar
from fpa_verl.errors import DatasetError, FpaError, IntegrationError
from fpa_verl.integration.config.typed_command import typed_command
from fpa_verl.integration.say import MARK, listen
from fpa_verl.runs.names import LOG_FILE
from fpa_verl.runs.state import Reader, State

OUT, ERR = 1, 2
LOOK_EVERY_S = 0.5
# Where nobody looks at a bar, a line at most so often.
PLAIN_EVERY_S = 10.0
# A worker's line as Ray hands it on, with or without colour, or one of this process.
OURS = re.compile(rf"^(?:(?:\x1b\[\d+m)?\([^)]*\bpid=[^)]*\)(?:\x1b\[0m)? )?{re.escape(MARK)}(.*)$")


class _Console(Console):
    """rich's, which would end the run where nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """The log is read all the same."""


class Terminal:
    """Holds standard output and error while a block runs.

    What is printed before `follow` says where the log is waits for it. Where the block ends before that, it is dropped,
    or shown if the error is none of ours.

    Args:
        verbose: show all of it, as it comes.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._log: Path | None = None
        self._follower: _Follower | None = None

    def __enter__(self) -> Terminal:
        _flush()
        self._kept = {stream: os.dup(stream) for stream in (OUT, ERR)}
        self._out = open(os.dup(OUT), "w", encoding="utf-8", errors="replace", buffering=1)
        self.console = _Console(file=self._out)
        self._early = tempfile.TemporaryFile(buffering=0)
        if not self._verbose:
            _turn(self._early.fileno())
        listen(self._say)
        return self

    def follow(self, folder: Path) -> None:
        """From here on all goes to the log in `folder`, and what is done there is shown.

        Raises:
            IntegrationError: there is no room for a log.
        """
        log = folder / LOG_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with open(log, "ab", buffering=0) as file:
                began = time.strftime("%Y-%m-%d %H:%M:%S")
                file.write(f"==== {began}  {typed_command() or 'a run'}\n".encode())
                _flush()
                self._early.seek(0)
                file.write(self._early.read())
                start = file.tell()
                _turn(file.fileno())
        except OSError as error:
            raise IntegrationError(
                f"{log} cannot be written ({error.strerror}): make room, or choose a folder"
            ) from error
        self._log = log
        self._follower = _Follower(log, start, folder, self.console, raw=self._verbose)
        self._say(f"log: {log}" + ("" if self._verbose else " (verbose=true shows it here)"))
        self._follower.start()

    def _say(self, line: str) -> None:
        if self._log is None:
            self._early.write(f"{line}\n".encode())
        else:
            with suppress(OSError), open(self._log, "a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        # Who sees all sees it in the log.
        if self._follower is None or not self._verbose:
            show(self.console, line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = isinstance(error, Exception)
        if failed and self._log is not None:
            with suppress(OSError):
                traceback.print_exception(error, file=sys.stderr)
        _flush()
        if self._follower is not None:
            self._follower.stop()
        listen(print)
        for stream, kept in self._kept.items():
            os.dup2(kept, stream)
            os.close(kept)
        with suppress(OSError):
            self._out.close()
        if error is not None and self._log is not None:
            print(f"log: {self._log}", file=sys.stderr)
        elif failed and not isinstance(error, FpaError):
            self._early.seek(0)
            sys.stderr.write(self._early.read().decode(errors="replace"))
        self._early.close()


def _turn(target: int) -> None:
    """Let standard output and error go to `target`, line by line."""
    for stream in (OUT, ERR):
        os.dup2(target, stream)
    for text in (sys.stdout, sys.stderr):
        text.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _flush() -> None:
    """Hand on what Python holds back; a full disk must not hide what failed."""
    for text in (sys.stdout, sys.stderr):
        with suppress(OSError):
            text.flush()


def show(console: Console, line: str) -> None:
    """A line as it is, however wide the terminal; a terminal that is gone ends no run."""
    with suppress(OSError):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Follower:
    """Shows what is for the user in a log, from byte `start` on, and how far the command is that writes to `folder`."""

    def __init__(self, log: Path, start: int, folder: Path, console: Console, *, raw: bool) -> None:
        self._log, self._place, self._rest = log, start, b""
        self._console, self._raw = console, raw
        self._reader = Reader(folder, time.time())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        self._said, self._said_at = str(State("starting")), time.monotonic()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        # Who sees all has no place for one.
        with nullcontext() if self._raw else bar(self._console, self._said) as show_bar:
            while True:
                # What was printed before the end is in the log by now.
                last = self._over.wait(LOOK_EVERY_S)
                # Files that are just being written, or were taken away.
                with suppress(DatasetError, OSError):
                    self._relay()
                    self._show(self._reader.state(time.time()), show_bar, last=last)
                if last:
                    return

    def _relay(self) -> None:
        for line in self._lines():
            if self._raw:
                show(self._console, line)
            elif found := OURS.match(line):
                show(self._console, found[1])

    def _lines(self) -> Iterator[str]:
        """Whole lines that were added to the log."""
        with open(self._log, "rb") as file:
            file.seek(self._place)
            added = file.read()
        self._place += len(added)
        *lines, self._rest = (self._rest + added).split(b"\n")
        yield from (line.decode("utf-8", errors="replace") for line in lines)

    def _show(self, state: State, show_bar: Show | None, *, last: bool) -> None:
        if show_bar is not None:
            self._console.width = _width(self._console.file)
            show_bar(state.doing, state, state.note)
        elif str(state) != self._said and (last or time.monotonic() - self._said_at >= PLAIN_EVERY_S):
            show(self._console, str(state))
            self._said, self._said_at = str(state), time.monotonic()


def _width(terminal: IO[str]) -> int:
    """Of the terminal that was kept; rich would ask standard output, which is the log."""
    try:
        return os.get_terminal_size(terminal.fileno()).columns
    except OSError:
        return 80
