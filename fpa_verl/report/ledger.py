"""The ledger of a run: where its wall-clock time went, appended as it goes.

One JSON object a line, never rewritten:

    {"kind": "attempt", "time": unix_s, "attempt": 1, "devices": 2, "device": "NVIDIA H200", ...}
    {"kind": "step", "time": unix_s, "attempt": 1, "step": 17, "seconds": {"training": 3.1, ...}}
    {"kind": "end", "time": unix_s, "attempt": 1, "step": 400, "seconds": {...}}

Phases exclude one another, so the seconds of an attempt add up to its wall clock. A resumed run
is another attempt.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fpa_verl.files import append_json_line, read_json_lines

LEDGER_FILE = "ledger.jsonl"
# Environment variable: unix time at which the command was typed. Start-up counts from there.
STARTED_AT = "FPA_VERL_STARTED_AT"

STARTUP = "startup"
GENERATION = "generation"
LOG_PROBS = "log_probs"
REFERENCE = "reference"
TRAINING = "training"
WEIGHT_SYNC = "weight_sync"
CHECKPOINTING = "checkpointing"
EVALUATION = "evaluation"
OTHER = "other"
PHASES = (GENERATION, LOG_PROBS, TRAINING, WEIGHT_SYNC, CHECKPOINTING, OTHER, STARTUP, EVALUATION)
# Time that buys no accuracy and so is no part of a method's cost: shown apart.
NOT_COST = (STARTUP, EVALUATION)


def device_seconds(folder: Path) -> dict[str, float]:
    """Device-seconds by phase, each attempt with the devices that it held."""
    total: dict[str, float] = {}
    devices: dict[int, int] = {}
    for record in read_json_lines(folder / LEDGER_FILE):
        if record["kind"] == "attempt":
            devices[record["attempt"]] = record["devices"]
        for phase, seconds in record.get("seconds", {}).items():
            total[phase] = total.get(phase, 0.0) + seconds * devices[record["attempt"]]
    return total


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
        """Start-up is over: from here on unnamed time is `other`."""
        self._charge()
        self._stack[0] = OTHER

    def write(self, kind: str, step: int, **record: Any) -> None:
        """Append the seconds since the last record. `kind` is "step" or "end"."""
        self._charge()
        seconds = {phase: round(value, 6) for phase, value in self._seconds.items()}
        self._append(kind, step=step, seconds=seconds, **record)
        self._seconds = {}

    def cost(self, device: str) -> dict[str, Any]:
        """What everything written so far has cost, in all attempts, on devices of this name."""
        spent = {phase: value for phase, value in device_seconds(self._folder).items() if phase not in NOT_COST}
        return {"device_seconds": spent, "devices": self._devices, "device": device}
