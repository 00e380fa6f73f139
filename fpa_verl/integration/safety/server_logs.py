"""The first error that a rollout server wrote down: it stands before some ten thousand lines that follow from it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from fpa_verl.integration.safety.said_once import FAILED, REQUEST_FAILED

# vLLM's own lines, with the time and the place in front: ERROR 11-28 23:56:34 [core.py:1100] RuntimeError: what it was.
LINE = re.compile(r"ERROR (\d\d-\d\d \d\d:\d\d:\d\d)\b.*?\] \s*(?:[\w.]+\.)?(\w*(?:Error|Exception)): (\S.*)")
# What stands before the trace of a request that failed, and its last line.
REQUESTS_FAILED = (FAILED, REQUEST_FAILED)
RAISED = re.compile(r"(?:[\w.]+\.)?(\w*(?:Error|Exception)): (\S.*)")
# Of the text of an error.
SHOWN = 300

# Names and lines.
Logs = list[tuple[str, list[str]]]


def logs_folder() -> Path:
    """Where Ray keeps what the processes of the latest session on this machine wrote."""
    return Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "session_latest" / "logs"


def first_error(folder: Path | None = None) -> str | None:
    """The earliest error in the processes' logs, as `RuntimeError: what it was`; None where none is written down.

    A server's own; where no server has one, that of a request. Logs that ended before this process began are those of
    an earlier run on the cluster.
    """
    logs = list(_logs(folder or logs_folder(), psutil.Process().create_time()))
    found = min(_errors(logs), default=None)
    return next(_of_requests(logs), None) if found is None else found[-1]


def _errors(logs: Logs) -> Iterator[tuple[str, str, int, str]]:
    """(time, file, line, error), as far as the logs can be read."""
    for name, lines in logs:
        for number, line in enumerate(lines):
            if match := LINE.search(line):
                when, kind, text = match.groups()
                yield when, name, number, f"{kind}: {text[:SHOWN]}"


def _of_requests(logs: Logs) -> Iterator[str]:
    """What stopped requests, the first of every process; the last line of a trace stands at the margin."""
    for _, lines in logs:
        begun = next(
            (number for number, line in enumerate(lines) if any(one in line for one in REQUESTS_FAILED)), len(lines)
        )
        if match := next(filter(None, map(RAISED.match, lines[begun:])), None):
            kind, text = match.groups()
            yield f"{kind}: {text[:SHOWN]}"


def _logs(folder: Path, since: float) -> Iterator[tuple[str, list[str]]]:
    """Name and lines of every log that can be read."""
    for file in sorted(folder.glob("worker-*")):
        with suppress(OSError):
            if file.stat().st_mtime < since:
                continue
            yield file.name, file.read_text(encoding="utf-8", errors="replace").splitlines()
