"""What verl's own loggers left of a run, read into one form whichever of them it was.

file         PROJECT/EXPERIMENT.jsonl, one JSON object a step; no clock. A resumed run begins it anew.
tensorboard  a folder of event files, one an attempt: protocol buffers in Tensorflow's record format
wandb        run-ID.wandb in wandb/offline-run-*, one an attempt: protocol buffers in that of LevelDB's log
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from fpa_verl.errors import DatasetError
from fpa_verl.files import read_json_lines
from fpa_verl.runs.protocol_buffers import Message
from fpa_verl.runs.wandb_files import WANDB_SUFFIX, read_wandb, runs_of, values, with_other_attempts

FILE_SUFFIX = ".jsonl"
EVENTS = "*.tfevents.*"
# Every step that was trained has it.
STEP = "timing_s/step"
# Of a hundred metrics a step, reports read these.
_READ: tuple[str, ...] = (
    "timing_s/",
    "perf/",
    "val-core/",
    "actor/",
    "prompt_length/",
    "response_length/",
    "dynamics/",
)
_READ += ("critic/score/", "critic/rewards/")
# Tensorflow's format: each record behind its length and a checksum of that, before a checksum of itself.
_EVENT_HEAD, _CHECKSUM = struct.Struct("<QI"), 4


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
        names: of all metrics, those that reports do not read among them.
    """

    path: Path
    name: str
    files: list[Path]
    records: list[Record]
    device: str | None = None
    names: frozenset[str] = frozenset()


def find_logs(path: Path) -> list[Path]:
    """The logs at `path`: a file that is one, or any number of levels below a folder, the file logger's left out there.

    Nothing but its content tells the file logger's file from others of the same suffix. With a file of wandb's come
    those of the run's other attempts.
    """
    if path.is_dir():
        files = [attempt for file in path.rglob(f"*{WANDB_SUFFIX}") for attempt in with_other_attempts(file)]
        return sorted({*(file.parent for file in path.rglob(EVENTS)), *files})
    if path.match(EVENTS):
        return [path.parent]
    if path.suffix == WANDB_SUFFIX:
        return with_other_attempts(path)
    return [path] if _is_of_file_logger(path) else []


def whole_runs(logs: Iterable[Path]) -> list[list[Path]]:
    """The logs of each run: of wandb's a file for each attempt, of other loggers one."""
    place = {log: number for number, log in enumerate(logs)}
    runs = runs_of(log for log in place if log.suffix == WANDB_SUFFIX)
    runs += [[log] for log in place if log.suffix != WANDB_SUFFIX]
    return sorted(runs, key=lambda run: min(place[log] for log in run))


def read_log(path: Path, *later: Path) -> VerlLog:
    """Read a log that `find_logs` found.

    Args:
        path: the log.
        later: files of the same run's later attempts, in their order.

    Raises:
        DatasetError: it is damaged, or the package that reads it is not installed.
    """
    if path.suffix == FILE_SUFFIX:
        return _read_file(path)
    return _read_wandb([path, *later]) if path.suffix == WANDB_SUFFIX else _read_tensorboard(path)


def _read_file(path: Path) -> VerlLog:
    """The file logger empties its file when a run begins; where others were appended, their steps begin again."""
    records: list[Record] = []
    names: set[str] = set()
    try:
        for line in read_json_lines(path):
            step, metrics = int(line["step"]), _numbers(line["data"])
            names |= line["data"].keys()
            attempt, last = (records[-1].attempt, records[-1]) if records else (1, None)
            again = last and (step < last.step or (step == last.step and STEP in last.metrics and STEP in metrics))
            records.append(Record(attempt + bool(again), step, None, metrics))
    except (DatasetError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path} begins like a log of verl and is damaged further on: {error}") from error
    return VerlLog(path, f"{path.stem} (file)", [path], records, names=frozenset(names))


def _is_of_file_logger(path: Path) -> bool:
    if path.suffix != FILE_SUFFIX:
        return False
    with open(path, encoding="utf-8-sig", errors="replace") as lines:
        try:
            first = json.loads(next(filter(str.strip, lines), ""))
        except json.JSONDecodeError:
            return False
    return isinstance(first, dict) and {"step", "data"} <= first.keys()


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those that reports read; a metric may also be a text, a table or missing."""
    named = ((name, value) for name, value in metrics.items() if name.startswith(_READ))
    return {name: float(value) for name, value in named if isinstance(value, int | float) and math.isfinite(value)}


def _read_tensorboard(folder: Path) -> VerlLog:
    records: list[Record] = []
    names: set[str] = set()
    attempt = 0
    files = sorted(folder.glob(EVENTS))
    for file in files:
        everything = list(_scalars(file))
        names |= {name for _, _, name, _ in everything}
        scalars = [scalar for scalar in everything if scalar[2].startswith(_READ)]
        # verl writes generations as text through a second file: that is no attempt.
        attempt += bool(scalars)
        for step, group in groupby(scalars, key=lambda scalar: scalar[0]):
            logged = list(group)
            metrics = _numbers({name: value for _, _, name, value in logged})
            records.append(Record(attempt, step, logged[-1][1], metrics))
    return VerlLog(folder, f"{folder.name} (tensorboard)", files, records, names=frozenset(names))


def _scalars(file: Path) -> Iterator[tuple[int, float, str, float]]:
    """(step, unix time, name, value) of every scalar."""
    try:
        from tensorboard.compat.proto import event_pb2
    except ImportError as error:
        raise DatasetError(f"{file} is an event file: `pip install tensorboard` to read it") from error
    message = Message(event_pb2, "Event")
    for content in _tensorflow_records(file):
        event = message.read(content, file)
        for value in event.summary.value:
            if value.HasField("simple_value"):
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


def _read_wandb(files: list[Path]) -> VerlLog:
    attempts = [read_wandb(file) for file in files]
    records = [
        Record(number, step, time, _numbers(values(items, lambda name: name.startswith(_READ))))
        for number, attempt in enumerate(attempts, start=1)
        for step, time, items in attempt.logged
    ]
    names = frozenset(name for attempt in attempts for _, _, items in attempt.logged for name in items)
    device = next((attempt.device for attempt in attempts if attempt.device), None)
    return VerlLog(files[0], f"{attempts[0].name} (wandb)", files, records, device, names)
