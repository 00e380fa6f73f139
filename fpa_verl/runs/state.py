"""How far a command is and what it has reached, in a line: for a terminal that waits for its end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fpa_verl.runs.names import EVALUATIONS_FILE, LEDGER_FILE, RUN_FILE
from fpa_verl.runs.progress import Progress, duration, progress_of, read_count
from fpa_verl.runs.rounds import has_rounds, ledger_folders, read_rounds
from fpa_verl.runs.run import Run, read_run
from fpa_verl.runs.validation import best_step, latest_accuracy, validation_accuracy, validation_sources
from fpa_verl.tables import percent


@dataclass(frozen=True)
class State:
    """How far a command is.

    Attributes:
        done, total: steps, or what else is counted; total None where that is not known yet.
        unit: what is counted.
        note: what else there is to say, in a few words.
    """

    doing: str
    done: int = 0
    total: int | None = None
    unit: str = ""
    note: str = ""

    @property
    def counted(self) -> str:
        return "" if self.total is None else f"{self.done:,}/{self.total:,} {self.unit}"

    def __str__(self) -> str:
        return ", ".join(part for part in (f"{self.doing} {self.counted}".rstrip(), self.note) if part)


class Reader:
    """Reads from a folder how far the command is that writes there.

    Args:
        since: unix time before which a count is an earlier attempt's.
    """

    def __init__(self, folder: Path, since: float) -> None:
        self._folder, self._since = folder, since
        self._sizes: tuple[int, ...] = ()
        self._run: Run | None = None
        self._accuracy = ""
        self._progress: tuple[float, Progress] | None = None
        # Of a run in rounds: whoever follows the round, or its collection, that is under way.
        self._round: Reader | None = None

    def state(self, now: float) -> State:
        """How far it is at unix time `now`."""
        if has_rounds(self._folder):
            return self._state_of_round(now)
        run, count = self._latest_run(), read_count(self._folder)
        if count is not None and count.time < self._since:
            count = None
        if run is None or run.only_evaluates:
            if count is None:
                return State("starting")
            return State(count.doing, count.done, count.total, count.unit, _left(count.remaining(now)))
        if count is not None and count.over:
            count = None
        read_at, progress = self._progress or (now, progress_of(run, now))
        self._progress = read_at, progress
        remaining = None if progress.remaining is None else max(0.0, progress.remaining - (now - read_at))
        doing = f"{count.doing} {count.done:,}/{count.total:,}" if count else _left(remaining)
        note = ", ".join(part for part in (self._accuracy, doing) if part)
        return State(run.name, progress.step, progress.total, "steps", note)

    def _state_of_round(self, now: float) -> State:
        """That of the part which last wrote its ledger."""
        folder = max(ledger_folders(self._folder), key=lambda one: (one / LEDGER_FILE).stat().st_mtime, default=None)
        if folder is None:
            return State("starting")
        if self._round is None or self._round._folder != folder:
            self._round = Reader(folder, self._since)
        number = folder.relative_to(self._folder).parts[0].removeprefix("round_")
        state = self._round.state(now)
        return replace(state, doing=f"round {number} of {read_rounds(self._folder).rounds}, {state.doing}")

    def _latest_run(self) -> Run | None:
        """Read anew where it has gone on."""
        files = [self._folder / name for name in (RUN_FILE, LEDGER_FILE, EVALUATIONS_FILE)]
        sizes = tuple(file.stat().st_size if file.exists() else 0 for file in files)
        if sizes[0] and sizes != self._sizes:
            self._run, self._sizes, self._progress = read_run(self._folder), sizes, None
            self._accuracy = "" if self._run.only_evaluates else accuracy(self._run)
        return self._run


def accuracy(run: Run) -> str:
    """The last accuracy and the best, on validation problems where the run has some; empty before the first."""
    if not run.points:
        return ""
    if not (run.only_evaluates or any(point.step for point in run.points)):
        return f"begins at {percent(latest_accuracy(run)[1])} %"
    if not validation_sources(run):
        return f"accuracy {percent(latest_accuracy(run)[1])} %"
    step, last = latest_accuracy(run)
    best = best_step(run)
    of_best = "" if best == step else f", best {percent(validation_accuracy(run, best))} % (step {best})"
    return f"validation {percent(last)} %{of_best}"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} left"
