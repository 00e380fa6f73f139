"""The first error that a rollout server wrote down: it stands before some ten thousand lines that follow from it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

# vLLM's own lines, with the time and the place in front: ERROR 11-28 23:56:34 [core.py:1100] RuntimeError: what it was.
LINE = re.compile(r"ERROR (\d\d-\d\d \d\d:\d\d:\d\d)\b.*?\] \s*(?:[\w.]+\.)?(\w*(?:Error|Exception)): (\S.*)")
# Of the text of an error.
SHOWN = 300


def logs_folder() -> Path:
    """Where Ray keeps what the processes of the latest session on this machine wrote."""
    return Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "session_latest" / "logs"


def first_error(folder: Path | None = None) -> str | None:
    """The earliest error in the processes' logs, as `RuntimeError: what it was`; None where none is written down."""
    found = min(_errors(folder or logs_folder()), default=None)
    return None if found is None else found[-1]


def _errors(folder: Path) -> Iterator[tuple[str, str, int, str]]:
    """(time, file, line, error), as far as the logs can be read."""
    for file in sorted(folder.glob("worker-*")):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines):
            if match := LINE.search(line):
                when, kind, text = match.groups()
                yield when, file.name, number, f"{kind}: {text[:SHOWN]}"
