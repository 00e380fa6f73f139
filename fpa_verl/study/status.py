"""`fpa-verl study --status`: every job of a study, how far it is, what it reached (%) and what it took."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live

from fpa_verl.errors import FpaError
from fpa_verl.runs.progress import duration
from fpa_verl.runs.validation import best_step, latest_accuracy, validation_accuracy, validation_sources
from fpa_verl.study.definition import Study
from fpa_verl.study.jobs import Job, Jobs
from fpa_verl.study.state import Diary, left_by, phase_of, reader_of
from fpa_verl.tables import Table, for_terminal, percent

LOOK_EVERY_S = 2.0


def show_status(study: Study, console: Console) -> None:
    """Print the table; on a terminal, for as long as the study runs."""
    folder = Path(study.folder)
    if not (console.is_terminal and Diary.read(folder).is_running):
        console.print(for_terminal(status_table(study, time.time())))
        return
    with Live(console=console, refresh_per_second=1) as live:
        while Diary.read(folder).is_running:
            # Files that are just being written.
            with suppress(FpaError, OSError):
                live.update(for_terminal(status_table(study, time.time())))
            time.sleep(LOOK_EVERY_S)


def status_table(study: Study, now: float) -> Table:
    """The jobs at unix time `now`."""
    diary = Diary.read(Path(study.folder))
    rows = [_row(job, diary, now) for job in Jobs(study).all()]
    running = "runs" if diary.is_running else "does not run"
    return Table(f"{study.folder} {running}", ["command", "state", "accuracy", "best", "dev-min", "took"], rows)


def _row(job: Job, diary: Diary, now: float) -> list[str]:
    phase, past = phase_of(job, diary), diary.jobs.get(job.name)
    state = _far(job, diary, now) or phase if phase == "running" else phase
    seconds = None if past is None else now - past.began if phase == "running" else past.seconds
    took = duration(seconds) if seconds is not None else ""
    return [job.name, state, *_accuracies(job), _cost(job), took]


def _far(job: Job, diary: Diary, now: float) -> str:
    state = reader_of(job, diary, now).state(now)
    return state.counted or state.doing


def _accuracies(job: Job) -> tuple[str, str]:
    """The last accuracy and the best with its step, as a run chooses by; empty before training was evaluated."""
    run = left_by(job, "run", "base")
    if run is None or not run.points:
        return "", ""
    step, last = latest_accuracy(run)
    if not step and job.kind == "run":
        return "", ""
    if not validation_sources(run) or not step:
        return percent(last), ""
    best = best_step(run)
    return percent(last), f"{percent(validation_accuracy(run, best))} ({best})"


def _cost(job: Job) -> str:
    """The run's own, without start-up and evaluation, as reports have it."""
    run = left_by(job, "run")
    return "" if run is None else f"{run.spending.cost.device_seconds / 60:.2f}"
