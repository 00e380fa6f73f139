"""How far a command is, from the files that it writes: steps of a run, answers of a collection or an evaluation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fpa_verl.files import read_json_lines, write_json
from fpa_verl.runs.ledger import EVALUATION
from fpa_verl.runs.names import CONFIG_FILE, LEDGER_FILE, LOG_FILE, PROGRESS_FILE
from fpa_verl.runs.run import Run

# The pace is that of the last so many steps.
PACE_STEPS = 50
# A run that wrote nothing for so many of its steps, and for this long, has probably died.
SILENT_STEPS, SILENT_SECONDS = 10, 300
# What is said of a command whose work is done, and of one that ended before it was.
FINISHED, STOPPED = "finished", f"stopped, see {LOG_FILE}"
# Seconds between two counts that are written.
COUNT_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        total: steps that it is to make; None where neither ledger nor configuration says.
        seconds_a_step: wall-clock, evaluations left out, over the last steps of the attempt that goes on; None before
            the second.
        seconds_of_evaluations: that those still to come will take, each as long as the mean of those before.
        silent_for: seconds since it wrote anything.
        stopped: its command ended before the run did.
    """

    step: int
    total: int | None
    seconds_a_step: float | None
    seconds_of_evaluations: float
    silent_for: float
    finished: bool
    stopped: bool = False

    @property
    def remaining(self) -> float | None:
        """Seconds to the end at the present pace; None where that is not known, as before a run goes on."""
        if self.finished or self.stopped or self.total is None or self.seconds_a_step is None:
            return None
        left = (self.total - self.step) * self.seconds_a_step + self.seconds_of_evaluations
        return left - self.silent_for if left > self.silent_for else None

    @property
    def state(self) -> str:
        if self.finished:
            return FINISHED
        if self.stopped:
            return STOPPED
        if self.silent_for > max(SILENT_SECONDS, SILENT_STEPS * (self.seconds_a_step or 0.0)):
            return f"silent for {duration(self.silent_for)}"
        return "starting" if not self.step else "running"


def progress_of(run: Run, now: float) -> Progress:
    """Read how far `run` is at unix time `now`."""
    records = read_json_lines(run.folder / LEDGER_FILE)
    attempt = max((record["attempt"] for record in records), default=0)
    steps = [record["seconds"] for record in records if record["attempt"] == attempt and "step" in record]
    count = read_count(run.folder)
    heard = [record["time"] for record in records[-1:]] + ([count.time] if count else [])
    silent = now - max(heard, default=now)
    configured, every = _configured(run.folder)
    total, step = run.spending.total_steps or configured, run.spending.last_step
    to_come = [later for later in range(step + 1, (total or step) + 1) if later == total or later % every == 0]
    evaluations = len(to_come) * _seconds_an_evaluation(steps) if every > 0 else 0.0
    stopped = was_stopped(records) and not run.finished
    return Progress(step, total, _seconds_a_step(steps), evaluations, max(0.0, silent), run.finished, stopped)


def _seconds_a_step(steps: list[dict[str, float]]) -> float | None:
    """The first step of an attempt is left out: much is done in it for the first time."""
    last = steps[1:][-PACE_STEPS:]
    return sum(sum(step.values()) - step.get(EVALUATION, 0.0) for step in last) / len(last) if last else None


def _seconds_an_evaluation(steps: list[dict[str, float]]) -> float:
    found = [step[EVALUATION] for step in steps if step.get(EVALUATION)]
    return sum(found) / len(found) if found else 0.0


def _configured(folder: Path) -> tuple[int | None, int]:
    """Steps as configured, and steps between evaluations, -1 where there are none.

    Where only epochs are configured there is no number of steps: their length is the dataloader's to know.
    """
    file = folder / CONFIG_FILE
    return _steps_in(file, file.stat().st_mtime_ns) if file.exists() else (None, -1)


# Whoever follows a run asks twice a second, and a configuration has six hundred lines.
@lru_cache(maxsize=64)
def _steps_in(file: Path, changed: int) -> tuple[int | None, int]:
    config = OmegaConf.load(file)
    total, every = (OmegaConf.select(config, f"trainer.{key}") for key in ("total_training_steps", "test_freq"))
    return int(total) if total is not None and int(total) > 0 else None, int(every or -1)


@dataclass(frozen=True)
class Count:
    """How much there is of what a command makes piece by piece.

    Attributes:
        doing: what it does, in a word.
        unit: what is counted, in the plural.
        before: what was there when this attempt began.
        began, time: unix time of the attempt's first and latest count.
        over: nothing more comes.
    """

    doing: str
    unit: str
    done: int
    total: int
    before: int
    began: float
    time: float
    over: bool = False

    @property
    def a_second(self) -> float | None:
        """How many a second come, in this attempt; None before the first."""
        passed, made = self.time - self.began, self.done - self.before
        return made / passed if passed > 0 and made > 0 else None

    def remaining(self, now: float) -> float | None:
        """Seconds to the end at this pace; None before a hundredth is there, which no pace can be told by."""
        if self.over or self.a_second is None or 100 * (self.done - self.before) < self.total - self.before:
            return None
        return max(0.0, (self.total - self.done) / self.a_second - (now - self.time))


def read_count(folder: Path) -> Count | None:
    """The latest count in `folder`; None where nothing was counted, or not by this version."""
    try:
        return Count(**json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def silent_for(folder: Path, now: float) -> float:
    """Seconds at unix time `now` since a command that counts, or is still to count, was heard of: its count, its log.

    Args:
        folder: where it writes.
        now: as it is shown.
    """
    count, log = read_count(folder), folder / LOG_FILE
    heard = [count.time] if count else []
    return max(0.0, now - max([*heard, *([log.stat().st_mtime] if log.exists() else [])], default=now))


def was_stopped(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a ledger's last record is that of a command which has ended, whatever became of what it did."""
    return bool(records) and records[-1]["kind"] == "closed"


class Tally:
    """Writes down how much there is, at most once a second.

    Args:
        folder: where the command writes.
        doing: what it does, in a word.
        unit: what is counted, in the plural.
        total: how much there is to be.
        done: what is there already.
    """

    def __init__(self, folder: Path, doing: str, unit: str, *, total: int, done: int = 0) -> None:
        self._folder, now = folder, time.time()
        self._count = Count(doing, unit, done, total, done, now, now)
        self._write()

    def see(self, done: int) -> None:
        """There is so much by now."""
        if done != self._count.done and time.time() - self._count.time >= COUNT_EVERY_S:
            self._set(done)

    def behind(self, done: int) -> Callable[[int], None]:
        """`see` for whoever counts from 0, where so much was there before."""
        return lambda more: self.see(done + more)

    def end(self, done: int) -> None:
        """Nothing more comes."""
        self._set(done, over=True)

    def _set(self, done: int, *, over: bool = False) -> None:
        self._count = Count(**{**asdict(self._count), "done": done, "time": time.time(), "over": over})
        self._write()

    def _write(self) -> None:
        # Nobody stops for want of a number to look at; a disk that is full stops who writes what counts.
        with suppress(OSError):
            write_json(self._folder / PROGRESS_FILE, asdict(self._count))


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds where there are no hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
