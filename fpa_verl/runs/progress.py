"""How far a command is, from the files that it writes: steps of a run, answers of a collection or an evaluation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from omegaconf import OmegaConf

from fpa_verl.files import read_json_lines, write_json
from fpa_verl.runs.names import CONFIG_FILE, LEDGER_FILE, PROGRESS_FILE
from fpa_verl.runs.run import Run

# The pace is that of the last so many steps, evaluations among them.
PACE_STEPS = 50
# A run that wrote nothing for so many of its steps, and for this long, has probably died.
SILENT_STEPS, SILENT_SECONDS = 10, 300
# Seconds between two counts that are written.
COUNT_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        total: steps that it is to make; None where neither ledger nor configuration says.
        seconds_a_step: wall-clock, over the last steps of the attempt that goes on; None before the second.
        silent_for: seconds since it wrote anything.
    """

    step: int
    total: int | None
    seconds_a_step: float | None
    silent_for: float
    finished: bool

    @property
    def remaining(self) -> float | None:
        """Seconds to the end at the present pace."""
        if self.finished or self.total is None or self.seconds_a_step is None:
            return None
        return max(0.0, (self.total - self.step) * self.seconds_a_step - self.silent_for)

    @property
    def state(self) -> str:
        if self.finished:
            return "finished"
        if self.silent_for > max(SILENT_SECONDS, SILENT_STEPS * (self.seconds_a_step or 0.0)):
            return f"silent for {duration(self.silent_for)}"
        return "starting" if not self.step else "running"


def progress_of(run: Run, now: float) -> Progress:
    """Read how far `run` is at unix time `now`."""
    records = read_json_lines(run.folder / LEDGER_FILE)
    attempt = max((record["attempt"] for record in records), default=0)
    times = [record["time"] for record in records if record["attempt"] == attempt and "step" in record][-PACE_STEPS:]
    pace = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else None
    count = read_count(run.folder)
    heard = [record["time"] for record in records[-1:]] + ([count.time] if count else [])
    silent = now - max(heard, default=now)
    total = run.spending.total_steps or _configured_steps(run.folder)
    return Progress(run.spending.last_step, total, pace, max(0.0, silent), run.finished)


def _configured_steps(folder: Path) -> int | None:
    """Steps as configured; None where only epochs are, whose length is the dataloader's to know."""
    file = folder / CONFIG_FILE
    return _steps_in(file, file.stat().st_mtime_ns) if file.exists() else None


# Whoever follows a run asks twice a second, and a configuration has six hundred lines.
@lru_cache(maxsize=64)
def _steps_in(file: Path, changed: int) -> int | None:
    total = OmegaConf.select(OmegaConf.load(file), "trainer.total_training_steps")
    return int(total) if total is not None and int(total) > 0 else None


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
