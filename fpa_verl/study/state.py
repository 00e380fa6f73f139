"""How far a study is: what its jobs did, in `study.json`, and what the files of a running one say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from fpa_verl.errors import FpaError
from fpa_verl.files import write_json
from fpa_verl.runs.ledger import read_spending
from fpa_verl.runs.names import STUDY_FILE
from fpa_verl.runs.rounds import ledger_folders, whole_run
from fpa_verl.runs.run import Run
from fpa_verl.runs.state import Reader, accuracy
from fpa_verl.runs.summary import SECONDS_PER_HOUR
from fpa_verl.study.jobs import Job

KILLED = "killed"
Phase = Literal["done", "running", "failed", "waiting"]


@dataclass
class Past:
    """What a job did.

    Attributes:
        began: unix time.
        seconds: until its end; None while it runs.
        error: why it failed; empty where it did not.
        log: what it printed.
        words: the command.
        goes_on: whether it may have gone on from an attempt that came to no end, so that its time says little.
    """

    began: float
    seconds: float | None = None
    error: str = ""
    log: str = ""
    words: str = ""
    goes_on: bool = False


@dataclass
class Diary:
    """`study.json`: which process runs the study, and what each job did last.

    Attributes:
        pid: of the process that runs it, or ran it last; with `created`, when that began.
    """

    file: Path
    pid: int = 0
    created: float = 0.0
    jobs: dict[str, Past] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Diary:
        """That of a study's folder; an empty one where there is none."""
        file = folder / STUDY_FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            jobs = {name: Past(**past) for name, past in content["jobs"].items()}
            return cls(file, content["pid"], content["created"], jobs)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(file)

    def begin(self) -> None:
        """This process runs it from here on; what another was about when it was killed waits again."""
        for past in self.jobs.values():
            if past.seconds is None and not past.error:
                past.error = KILLED
        self.pid, self.created = os.getpid(), psutil.Process().create_time()
        self.write()

    def write(self) -> None:
        content: dict[str, Any] = {"pid": self.pid, "created": self.created}
        write_json(self.file, {**content, "jobs": {name: asdict(past) for name, past in self.jobs.items()}})

    @property
    def is_running(self) -> bool:
        """Whether the process that runs it is alive."""
        try:
            return psutil.Process(self.pid).create_time() == self.created
        except psutil.Error:
            return False


def phase_of(job: Job, diary: Diary) -> Phase:
    """Where a job is."""
    past = diary.jobs.get(job.name)
    if past is not None and past.seconds is None and not past.error and diary.is_running:
        return "running"
    if job.is_done:
        return "done"
    return "failed" if past is not None and past.error else "waiting"


def reached(job: Job) -> str:
    """The accuracy of a run so far, in words; empty for other jobs and before the first evaluation."""
    run = left_by(job, "run", "base")
    return "" if run is None else accuracy(run)


def left_by(job: Job, *kinds: str) -> Run | None:
    """The run that a job of one of these kinds has left so far; None where there is none that can be read."""
    if job.kind not in kinds:
        return None
    with suppress(FpaError):
        return whole_run(job.folder)
    return None


def reader_of(job: Job, diary: Diary, now: float) -> Reader:
    """Whoever follows a job that runs at unix time `now`."""
    past = diary.jobs.get(job.name)
    return Reader(job.folder, past.began if past else now)


def device_hours(jobs: Iterable[Job]) -> float:
    """What all of them spent so far, as the ledgers have it: start-up and evaluation included, for they are paid."""
    folders = dict.fromkeys(one for job in jobs if job.kind != "prepare" for one in ledger_folders(job.folder))
    return sum(sum(read_spending(folder).device_seconds.values()) for folder in folders) / SECONDS_PER_HOUR
