"""Files that are either whole or absent: write beside the target, flush to disk, then rename."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from fpa_verl.errors import DatasetError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `target` that replaces it when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that takes its place when the block ends without an error.

    Killed between the two renames that this takes, there is no `target` and both are whole: `recover_folder`.
    """
    unfinished, replaced = _beside(target)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    recover_folder(target)
    if target.exists():
        target.rename(replaced)
    unfinished.rename(target)
    shutil.rmtree(replaced, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Put back what a killed `atomic_folder` had moved out of the way, and clean up what one left."""
    _, replaced = _beside(target)
    if target.exists():
        shutil.rmtree(replaced, ignore_errors=True)
    elif replaced.exists():
        replaced.rename(target)


def _beside(target: Path) -> tuple[Path, Path]:
    return target.with_name(f".{target.name}.unfinished"), target.with_name(f".{target.name}.replaced")


def hold(folder: Path, patience_s: float = 60.0) -> BinaryIO:
    """Keep `folder` to this process until it ends or closes the file that is returned.

    What a killed command had started may take a while to end: it is waited for.

    Raises:
        DatasetError: another process still holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / ".lock", "ab")  # noqa: SIM115
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                raise DatasetError(
                    f"{folder}: another command is writing here; wait for its end, or choose another folder"
                ) from None
            time.sleep(0.5)


def write_json(target: Path, value: Any) -> None:
    """Write `value` atomically, indented, keys in the order given."""
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def append_json_line(target: Path, value: Any) -> None:
    """Append one record in a single write, so that a kill leaves at most one torn last line.

    A torn line that is there is cut off first: nobody could read it, and the record would become part of it.

    Raises:
        OSError: the disk is full; what had been written of the record is gone again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(value, ensure_ascii=False) + "\n").encode()
    with open(target, "ab+", buffering=0) as file:
        end = _end_of_last_line(file)
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        except OSError as error:
            file.truncate(end)
            raise OSError(error.errno, error.strerror, str(target)) from error


def _end_of_last_line(file: Any) -> int:
    """Where the last whole line of a file ends; what is behind it is cut off."""
    end = file.seek(0, os.SEEK_END)
    if end:
        file.seek(end - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            end = file.read(end).rfind(b"\n") + 1
            file.truncate(end)
    return int(end)


def read_json_lines(source: Path) -> list[dict[str, Any]]:
    """Records of a file written by `append_json_line`; a torn last line is left out, and so are blank ones.

    Raises:
        DatasetError: another line is no JSON.
    """
    if not source.exists():
        return []
    records = []
    # Not splitlines: a text in a record may hold what Unicode takes for the end of a line.
    lines = source.read_text(encoding="utf-8-sig", errors="replace").rstrip().split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number != len(lines):
                raise DatasetError(
                    f"{source}, line {number} is damaged ({error}): restore the file, or leave out what it belongs to"
                ) from error
    return records


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes, read in chunks."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
