"""What verl's own loggers left of a run, read into one form whichever of them it was.

file         PROJECT/EXPERIMENT.jsonl, one JSON object a step; no clock. A resumed run begins it anew.
tensorboard  a folder of event files, one an attempt: protocol buffers in Tensorflow's record format
wandb        run-ID.wandb in wandb/offline-run-*: protocol buffers in that of LevelDB's log
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fpa_verl.errors import DatasetError
from fpa_verl.files import read_json_lines

FILE_SUFFIX, WANDB_SUFFIX = ".jsonl", ".wandb"
EVENTS = "*.tfevents.*"
# Of a hundred metrics a step, reports read these.
_READ = ("timing_s/", "perf/", "val-core/", "actor/", "prompt_length/", "response_length/", "dynamics/")
# Tensorflow's format: each record behind its length and a checksum of that, before a checksum of itself.
_EVENT_HEAD, _CHECKSUM = struct.Struct("<QI"), 4
# LevelDB's log: blocks of records, each behind checksum, length and whether it is whole, first, middle or last.
_BLOCK, _RECORD_HEAD = 32768, struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4
# Wandb's mark in front of them: identifier, magic number, version.
_WANDB_MARK, _WANDB_HEAD = b":W&B", 7


@dataclass(frozen=True)
class Record:
    """What was logged of one step.

    Attributes:
        attempt: number, from 1; a resumed run is another one.
        time: unix time of logging; None where the logger writes none.
        metrics: finite numbers by verl's names.
    """

    attempt: int
    step: int
    time: float | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class VerlLog:
    """A log, read.

    Attributes:
        path: the file, or the folder of event files.
        name: the experiment's, and which logger it was.
        device: name of the GPU; None where the logger does not write it down.
    """

    path: Path
    name: str
    files: list[Path]
    records: list[Record]
    device: str | None = None


def find_logs(path: Path) -> list[Path]:
    """The logs at `path`: a file that is one, or any number of levels below a folder, the file logger's left out there.

    Nothing but its content tells the file logger's file from others of the same suffix.
    """
    if path.is_dir():
        return sorted({*(file.parent for file in path.rglob(EVENTS)), *path.rglob(f"*{WANDB_SUFFIX}")})
    if path.match(EVENTS):
        return [path.parent]
    return [path] if path.suffix == WANDB_SUFFIX or _is_of_file_logger(path) else []


def read_log(path: Path) -> VerlLog:
    """Read a log that `find_logs` found.

    Raises:
        DatasetError: it is damaged, or the package that reads it is not installed.
    """
    if path.suffix == FILE_SUFFIX:
        return _read_file(path)
    return _read_wandb(path) if path.suffix == WANDB_SUFFIX else _read_tensorboard(path)


def _read_file(path: Path) -> VerlLog:
    try:
        lines = read_json_lines(path)
        records = [Record(1, int(line["step"]), None, _numbers(line["data"])) for line in lines]
    except (json.JSONDecodeError, KeyError) as error:
        raise DatasetError(f"{path} begins like a log of verl and is damaged further on: {error}") from error
    return VerlLog(path, f"{path.stem} (file)", [path], records)


def _is_of_file_logger(path: Path) -> bool:
    if path.suffix != FILE_SUFFIX:
        return False
    with open(path, encoding="utf-8", errors="replace") as lines:
        try:
            first = json.loads(lines.readline())
        except json.JSONDecodeError:
            return False
    return isinstance(first, dict) and {"step", "data"} <= first.keys()


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those that reports read; a metric may also be a text, a table or missing."""
    named = ((name, value) for name, value in metrics.items() if name.startswith(_READ))
    return {name: float(value) for name, value in named if isinstance(value, int | float) and math.isfinite(value)}


def _read_tensorboard(folder: Path) -> VerlLog:
    records: list[Record] = []
    attempt = 0
    files = sorted(folder.glob(EVENTS))
    for file in files:
        scalars = list(_scalars(file))
        # verl writes generations as text through a second file: that is no attempt.
        attempt += bool(scalars)
        for step, group in groupby(scalars, key=lambda scalar: scalar[0]):
            logged = list(group)
            metrics = _numbers({name: value for _, _, name, value in logged})
            records.append(Record(attempt, step, logged[-1][1], metrics))
    return VerlLog(folder, f"{folder.name} (tensorboard)", files, records)


def _scalars(file: Path) -> Iterator[tuple[int, float, str, float]]:
    """(step, unix time, name, value) of every scalar that reports read."""
    try:
        from tensorboard.compat.proto import event_pb2
    except ImportError as error:
        raise DatasetError(f"{file} is an event file: `pip install tensorboard` to read it") from error
    message = _message(event_pb2, "Event")
    for content in _tensorflow_records(file):
        event = message.FromString(content)
        for value in event.summary.value:
            if value.HasField("simple_value") and value.tag.startswith(_READ):
                # Single precision: 0.9 comes back as 0.89999998, which reaches no target of 0.9.
                yield event.step, event.wall_time, value.tag, float(str(np.float32(value.simple_value)))


def _tensorflow_records(file: Path) -> Iterator[bytes]:
    """The records of an event file; one that was not written to its end is left out.

    tensorboard's own loader computes every checksum in Python, which is most of its time.
    """
    data, at = file.read_bytes(), 0
    while at + _EVENT_HEAD.size <= len(data):
        length, _ = _EVENT_HEAD.unpack_from(data, at)
        begin, at = at + _EVENT_HEAD.size, at + _EVENT_HEAD.size + length + _CHECKSUM
        if at <= len(data):
            yield data[begin : begin + length]


def _message(module: Any, name: str) -> Any:
    """A class of protocol buffers, which a module makes at run time, unseen by type checkers."""
    return vars(module)[name]


def _read_wandb(file: Path) -> VerlLog:
    try:
        from wandb.proto import wandb_internal_pb2
    except ImportError as error:
        raise DatasetError(f"{file} was written by wandb: `pip install wandb` to read it") from error
    message = _message(wandb_internal_pb2, "Record")
    name, device, records = file.stem, None, []
    for content in _leveldb_records(file):
        record = message.FromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            name = record.run.display_name or name
        elif kind == "environment":
            device = record.environment.gpu_type or device
        elif kind == "history":
            items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
            metrics = _numbers({key: json.loads(text) for key, text in items.items() if key.startswith(_READ)})
            records.append(Record(1, int(items["_step"]), float(items["_timestamp"]), metrics))
    return VerlLog(file, f"{name} (wandb)", [file], records, device)


def _leveldb_records(file: Path) -> Iterator[bytes]:
    """The records of a log in LevelDB's format; one that was not written to its end is left out.

    Raises:
        DatasetError: the file does not begin as wandb's do.
    """
    data = file.read_bytes()
    if not data.startswith(_WANDB_MARK):
        raise DatasetError(f"{file} is no log of wandb, or nothing was written to it: leave it out")
    at, parts = _WANDB_HEAD, []
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
