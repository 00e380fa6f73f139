"""The ledger of a run: where its wall-clock time went, appended as it goes.

One JSON object a line, never rewritten:

    {"kind": "attempt", "time": unix_s, "attempt": 1, "devices": 2, "device": "NVIDIA H200", ...}
    {"kind": "step", "time": unix_s, "attempt": 1, "step": 17, "seconds": {"training": 3.1, ...}}
    {"kind": "end", "time": unix_s, "attempt": 1, "step": 400, "seconds": {...}}
    {"kind": "closed", "time": unix_s, "attempt": 1, "seconds": {"startup": 4.2}}

The command itself writes the last line, when every process has ended; one that is killed cannot.
Phases exclude one another, so the seconds of an attempt add up to its wall clock. A resumed run is
another attempt. A step may also say `tokens` (trained on, prompts included), `generated_tokens`
(responses that the run itself generated), `peak_memory_gb` and `total_steps`; reports say what is
missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.files import append_json_line, read_json_lines
from fpa_verl.runs.names import LEDGER_FILE

# Before the first step, and after the last one until every process has ended.
STARTUP = "startup"
GENERATION = "generation"
LOG_PROBS = "log_probs"
REFERENCE = "reference"
TRAINING = "training"
WEIGHT_SYNC = "weight_sync"
CHECKPOINTING = "checkpointing"
EVALUATION = "evaluation"
# Devices are held while the trainer's own process works: data, TransferQueue, advantages, records.
IDLE = "idle"
PHASES = (GENERATION, LOG_PROBS, TRAINING, WEIGHT_SYNC, CHECKPOINTING, IDLE, STARTUP, EVALUATION)
# Time that buys no accuracy and so is no part of a method's cost: shown apart.
NOT_COST = (STARTUP, EVALUATION)


@dataclass(frozen=True)
class Cost:
    """What was spent, start-up and evaluation left out."""

    device_seconds: float = 0.0
    wall_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.device_seconds + other.device_seconds, self.wall_seconds + other.wall_seconds)


@dataclass(frozen=True)
class Spending:
    """What a ledger adds up to, in all attempts.

    Attributes:
        device_seconds, wall_seconds: phase to seconds; each attempt with the devices that it held.
        by_step: (attempt, step) to all that had been spent by the end of that step.
        by_attempt: the same by the end of an attempt.
        devices: how many each attempt held.
        tokens, generated_tokens: trained on, and generated in the run; None where nobody counted.
        peak_memory_gb: the highest of all steps; None where nobody measured.
        clock_seconds: time from the start of every attempt to its last record; None where a start is not written down.
        last_step, total_steps: the last one done, and as many as there were to be; None where that is not recorded.
        finished: whether the last attempt came to its end.
        stopped_early: whether an attempt ended because validation no longer improved.
    """

    device_seconds: dict[str, float]
    wall_seconds: dict[str, float]
    by_step: dict[tuple[int, int], Cost]
    by_attempt: dict[int, Cost]
    devices: list[int]
    tokens: int | None
    generated_tokens: int | None
    peak_memory_gb: float | None
    clock_seconds: float | None
    last_step: int
    total_steps: int | None
    finished: bool
    stopped_early: bool

    @property
    def cost(self) -> Cost:
        """All that was spent so far."""
        return list(self.by_attempt.values())[-1] if self.by_attempt else Cost()

    def at(self, attempt: int, step: int) -> Cost:
        """Cost up to the end of a step.

        One without a record in this attempt was cut short, and all spent by then counts; unless the attempt went on
        from it: that was paid for by those before.
        """
        if (attempt, step) in self.by_step:
            return self.by_step[attempt, step]
        if any(of == attempt and later > step for of, later in self.by_step):
            return self.by_attempt.get(attempt - 1, Cost())
        return self.by_attempt.get(attempt, Cost())


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """The records of the ledger in `folder`; none where there is no file, and no torn last line.

    Raises:
        DatasetError: a line is no record.
    """
    records = read_json_lines(folder / LEDGER_FILE)
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict) or not {"kind", "time", "attempt"} <= record.keys():
            raise DatasetError(
                f"{folder / LEDGER_FILE}, record {number} is none of a ledger: restore the file, or leave the run out"
            )
    return records


def read_spending(folder: Path) -> Spending:
    """Add up the ledger in `folder`. Steps that a later attempt did again count twice: they were paid twice."""
    return add_up(read_ledger(folder))


def add_up(records: list[dict[str, Any]]) -> Spending:
    """What the records of a ledger come to; those of an attempt of which nobody knows the devices are left out."""
    devices = {record["attempt"]: record["devices"] for record in records if record["kind"] == "attempt"}
    device_seconds: dict[str, float] = {}
    wall_seconds: dict[str, float] = {}
    by_step: dict[tuple[int, int], Cost] = {}
    by_attempt: dict[int, Cost] = {}
    spent = Cost()
    records = [record for record in records if record["attempt"] in devices]
    for record in records:
        attempt = record["attempt"]
        for phase, seconds in record.get("seconds", {}).items():
            held = seconds * devices[attempt]
            wall_seconds[phase] = wall_seconds.get(phase, 0.0) + seconds
            device_seconds[phase] = device_seconds.get(phase, 0.0) + held
            if phase not in NOT_COST:
                spent = Cost(spent.device_seconds + held, spent.wall_seconds + seconds)
        by_attempt[attempt] = spent
        if "step" in record:
            by_step[attempt, record["step"]] = spent

    def recorded(name: str) -> list[Any]:
        return [record[name] for record in records if record.get(name) is not None]

    return Spending(
        device_seconds,
        wall_seconds,
        by_step,
        by_attempt,
        devices=list(devices.values()),
        tokens=sum(recorded("tokens")) if recorded("tokens") else None,
        generated_tokens=sum(recorded("generated_tokens")) if recorded("generated_tokens") else None,
        peak_memory_gb=max(recorded("peak_memory_gb"), default=None),
        clock_seconds=_clock_seconds(records),
        last_step=max((step for _, step in by_step), default=0),
        total_steps=next(iter(reversed(recorded("total_steps"))), None),
        finished=any(record["kind"] == "end" and record["attempt"] == max(devices) for record in records),
        stopped_early=any(recorded("stopped_early")),
    )


def _clock_seconds(records: list[dict[str, Any]]) -> float | None:
    started = {record["attempt"]: record.get("started_at") for record in records if record["kind"] == "attempt"}
    ended = {record["attempt"]: record["time"] for record in records}
    if not started or None in started.values():
        return None
    return float(sum(ended[attempt] - began for attempt, began in started.items()))


def close_ledger(folder: Path, *, started_at: float, failed: bool) -> None:
    """Write down what came after the last record of the attempt that began at `started_at`, if there is one.

    The end of a run is like its beginning; what a failed one did since its last record nobody knows, and it counts.
    """
    records = read_json_lines(folder / LEDGER_FILE)
    began = [record for record in records if record["kind"] == "attempt" and record.get("started_at") == started_at]
    if not began or records[-1]["kind"] == "closed":
        return
    now = time.time()
    seconds = {IDLE if failed else STARTUP: round(now - records[-1]["time"], 6)}
    record = {"kind": "closed", "time": now, "attempt": began[-1]["attempt"], "seconds": seconds}
    append_json_line(folder / LEDGER_FILE, record)


class Ledger:
    """Writes the ledger of one attempt.

    Args:
        folder: run directory.
        devices: devices held from start to end, busy or not.
        started_at: unix time at which the attempt began; what came before this object is start-up.
    """

    def __init__(self, folder: Path, *, devices: int, started_at: float, **attempt: Any) -> None:
        self._folder, self._devices = folder, devices
        self._file = folder / LEDGER_FILE
        self.attempt = 1 + sum(record["kind"] == "attempt" for record in read_json_lines(self._file))
        now = time.time()
        self._seconds = {STARTUP: max(0.0, now - started_at)}
        self._stack = [STARTUP]
        self._mark = time.monotonic()
        self._append("attempt", started_at=started_at, devices=devices, **attempt)

    def _append(self, kind: str, **record: Any) -> None:
        append_json_line(self._file, {"kind": kind, "time": time.time(), "attempt": self.attempt, **record})

    def _charge(self) -> None:
        """Give the time since the last change to the phase that was running."""
        now = time.monotonic()
        phase = self._stack[-1]
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._mark
        self._mark = now

    def enter(self, phase: str) -> None:
        self._charge()
        self._stack.append(phase)

    def leave(self) -> None:
        self._charge()
        self._stack.pop()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time inside the block is `name`'s, less what inner phases take."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def started(self) -> None:
        """Start-up is over: from here on unnamed time is `idle`."""
        self._charge()
        self._stack[0] = IDLE

    def write(self, kind: str, step: int, **record: Any) -> None:
        """Append the seconds since the last record. `kind` is "step" or "end"."""
        self._charge()
        seconds = {phase: round(value, 6) for phase, value in self._seconds.items()}
        self._append(kind, step=step, seconds=seconds, **record)
        self._seconds = {}

    def spent(self) -> Cost:
        """All that was spent so far, in all attempts, whether or not it is written yet."""
        self._charge()
        seconds = sum(value for phase, value in self._seconds.items() if phase not in NOT_COST)
        written = read_spending(self._folder).cost
        return Cost(written.device_seconds + seconds * self._devices, written.wall_seconds + seconds)

    def cost(self, device: str) -> dict[str, Any]:
        """What everything written so far has cost, in all attempts, on devices of this name."""
        total = read_spending(self._folder).device_seconds
        spent = {phase: value for phase, value in total.items() if phase not in NOT_COST}
        return {"device_seconds": spent, "devices": self._devices, "device": device}
