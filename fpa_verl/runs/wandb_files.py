"""Files of offline wandb: reading one, and telling which are attempts of one run.

Every time a run is started, wandb makes a folder, wandb/offline-run-DATE_TIME-ID, with a file run-ID.wandb: a run that
was resumed has several. verl names no id, so that a resumed run of its has a new one each time.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.runs.protocol_buffers import Message, damaged

WANDB_SUFFIX = ".wandb"
# LevelDB's log: blocks of records, each behind checksum, length and whether it is whole, first, middle or last.
_BLOCK, _RECORD_HEAD = 32768, struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4
# Wandb's mark in front of them: identifier, magic number, version.
_MARK, _HEAD = b":W&B", 7
_FOLDER = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(?P<id>.+)")


@dataclass(frozen=True)
class WandbFile:
    """One file, read: one attempt of a run.

    Attributes:
        run: entity, project and id; attempts of a run have them in common.
        name: the experiment's.
        device: name of the GPU; None where there was none.
        logged: step, unix time and the texts of metrics in JSON, by name, in order.
    """

    path: Path
    run: tuple[str, str, str]
    name: str
    device: str | None
    logged: list[tuple[int, float, dict[str, str]]]

    @property
    def began_at(self) -> float:
        return self.logged[0][1] if self.logged else 0.0

    @property
    def steps(self) -> list[int]:
        """Those that were trained, in order: step 0 is the validation before them."""
        return sorted({step for step, _, _ in self.logged if step})


def read_wandb(path: Path) -> WandbFile:
    """Read a file as far as it was written.

    Raises:
        DatasetError: wandb did not write it, or is not installed.
    """
    return _read(path, path.stat().st_size)


# Files are read to be sorted into runs, and for what is in them; the size tells whether a live run has gone on.
@lru_cache(maxsize=64)
def _read(path: Path, size: int) -> WandbFile:
    try:
        from wandb.proto import wandb_internal_pb2
    except ImportError as error:
        raise DatasetError(f"{path} was written by wandb: `pip install wandb` to read it") from error
    message = Message(wandb_internal_pb2, "Record")
    run, name, device, logged = ("", "", path.stem.removeprefix("run-")), path.stem, None, []
    for content in _leveldb_records(path):
        record = message.read(content, path)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            name = record.run.display_name or name
            run = (record.run.entity, record.run.project, record.run.run_id or run[2])
        elif kind == "environment":
            device = record.environment.gpu_type or device
        elif kind == "history":
            items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            if missing := {"_step", "_timestamp"} - items.keys():
                raise damaged(path, f"a record without {min(missing)}")
            logged.append((int(items["_step"]), float(items["_timestamp"]), items))
    return WandbFile(path, run, name, device, logged)


def _leveldb_records(file: Path) -> Iterator[bytes]:
    """The records of a log in LevelDB's format; one that was not written to its end is left out.

    Raises:
        DatasetError: the file does not begin as wandb's do.
    """
    data = file.read_bytes()
    if not data.startswith(_MARK):
        raise DatasetError(f"{file} is no log of wandb, or nothing was written to it: leave it out")
    at, parts = _HEAD, []
    while at + _RECORD_HEAD.size <= len(data):
        if (rest := _BLOCK - at % _BLOCK) < _RECORD_HEAD.size:
            # No record begins in what is left of a block then.
            at += rest
            continue
        _, length, kind = _RECORD_HEAD.unpack_from(data, at)
        at += _RECORD_HEAD.size + length
        if at > len(data):
            return
        parts.append(data[at - length : at])
        if kind in (_WHOLE, _LAST):
            yield b"".join(parts)
            parts = []


def with_other_attempts(file: Path) -> list[Path]:
    """The file, and those of the same id that wandb wrote beside it: a run is all of its attempts.

    Of an attempt that was killed before anything was written there is nothing to read.
    """
    # `latest-run` links to the folder of the attempt that was last.
    file = file.resolve() if file.parent.is_symlink() else file
    own = _FOLDER.fullmatch(file.parent.name)
    if own is None:
        return [file]
    beside = sorted(file.parent.parent.glob(f"*run-*-{escape(own['id'])}/{escape(file.name)}"))
    found = [one for one in beside if (m := _FOLDER.fullmatch(one.parent.name)) and m["id"] == own["id"]]
    written = [one for one in found if _is_written(one)]
    return written or [file]


def _is_written(file: Path) -> bool:
    with open(file, "rb") as content:
        return content.read(len(_MARK)) == _MARK


def runs_of(files: Iterable[Path]) -> list[list[Path]]:
    """The files of each run, its attempts in the order of time.

    Those in one folder of wandb's are attempts of one run if entity, project and id are the same. Files of two folders
    that have the id in common, and files of two ids of one entity, project and name, are one only where what is in the
    second begins behind the start, and goes on from what is in the first. A copy of a file counts once.
    """
    groups: dict[tuple[Path, tuple[str, str, str]], list[WandbFile]] = {}
    for file in map(read_wandb, files):
        groups.setdefault((_place(file.path), file.run), []).append(file)
    runs = sorted((_in_order(group) for group in groups.values()), key=lambda group: group[0].began_at)
    whole: list[list[WandbFile]] = []
    for group in runs:
        before = [one for one in whole if one[0].run == group[0].run]
        same = [one for one in before if one[0].began_at == group[0].began_at and group[0].logged]
        goes_on_from = [one for one in whole if _is_of_one_name(one[0], group[0]) and _goes_on(one, group)]
        # Of several that it may go on from nobody knows which it was.
        if joined := same or (goes_on_from if len(goes_on_from) == 1 else []):
            joined[0][:] = _in_order([*joined[0], *group])
        else:
            whole.append(group)
    return [[file.path for file in run] for run in whole]


def _place(file: Path) -> Path:
    """Wandb's own folder that the attempts of a run have in common; of a file that was taken out of it, where it is."""
    folder = file.resolve().parent
    return folder.parent if _FOLDER.fullmatch(folder.name) else folder


def _in_order(files: list[WandbFile]) -> list[WandbFile]:
    """Attempts by the time of their beginning; of copies, the one that goes on longest. Empty ones say nothing."""
    by_beginning: dict[float, WandbFile] = {}
    for file in files:
        known = by_beginning.setdefault(file.began_at, file)
        if len(file.logged) > len(known.logged):
            by_beginning[file.began_at] = file
    ordered = sorted(by_beginning.values(), key=lambda file: file.began_at)
    return [file for file in ordered if file.logged] or ordered


def _is_of_one_name(one: WandbFile, other: WandbFile) -> bool:
    return one.run == other.run or (one.run[:2] == other.run[:2] and one.name == other.name)


def _goes_on(before: list[WandbFile], after: list[WandbFile]) -> bool:
    done, steps = [step for file in before for step in file.steps], after[0].steps
    return bool(done and steps) and 1 < steps[0] <= max(done) + 1


def values(items: dict[str, str], wanted: Callable[[str], bool]) -> dict[str, Any]:
    """The values of the metrics that are wanted."""
    return {name: json.loads(text) for name, text in items.items() if wanted(name)}
