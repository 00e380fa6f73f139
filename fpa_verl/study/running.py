"""Runs the jobs of a study one after the other; what is done is passed over, and what fails holds up no other."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from fpa_verl.bar import bar
from fpa_verl.commands import Command
from fpa_verl.errors import AGAIN, ConfigError, FpaError
from fpa_verl.files import hold
from fpa_verl.processes import end_with_parent
from fpa_verl.runs.names import LOG_FILE
from fpa_verl.runs.progress import duration
from fpa_verl.runs.state import State
from fpa_verl.study.ahead import Ahead
from fpa_verl.study.definition import Study
from fpa_verl.study.jobs import Job, Jobs
from fpa_verl.study.launching import Launcher
from fpa_verl.study.state import Diary, Past, device_hours, reached, reader_of

LOOK_EVERY_S = 0.5
# Where nobody looks at a bar, a line at most so often.
PLAIN_EVERY_S = 30.0
# Lines of a failed command that are shown.
LAST_LINES = 8
LOGS = "logs"
# Before each attempt in a log.
BEGINS = "==== "
NO_FILE_NAME = re.compile(r"[^\w.=-]+")
INTERRUPTED = 130
# What is there once it is made, whoever made it; the command itself says whether it is what was asked for.
MADE_ONCE = ("collect", "cache_reference")


@dataclass(frozen=True)
class Wanted:
    """The part of a study that is to run.

    Attributes:
        arms: names; empty: all.
        seeds: empty: all.
    """

    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def has(self, job: Job) -> bool:
        """Whether the job is of one of these arms and seeds."""
        return (
            bool(job.arm)
            and (not self.arms or job.arm in self.arms)
            and (not self.seeds or job.seed in self.seeds or job.is_candidate)
        )


def wanted_of(study: Study, arms: Sequence[str], seeds: Sequence[int]) -> Wanted:
    """The part of a study with these arms and seeds.

    Raises:
        ConfigError: it has no such arm or seed.
    """
    known = dict.fromkeys(name for _, name, _ in study.all_arms())
    for arm in arms:
        if arm not in known:
            raise ConfigError(f"--only {arm}: no such arm; choose from {', '.join(known)}")
    known_seeds = sorted({seed for _, _, arm in study.all_arms() for seed in arm.seeds or study.seeds})
    for seed in seeds:
        if seed not in known_seeds:
            raise ConfigError(f"--seed {seed}: no such seed; choose from {', '.join(map(str, known_seeds))}")
    wanted = Wanted(tuple(arms), tuple(seeds))
    if not any(wanted.has(job) and job.kind == "run" for job in Jobs(study).all()):
        raise ConfigError(
            f"--only {' '.join(arms)} --seed {' '.join(map(str, seeds))}: none of these arms has that seed"
        )
    return wanted


def wanted_jobs(study: Study, wanted: Wanted) -> list[Job]:
    """What prepares the study, the jobs of these arms, what they need of others, and what is made of them together."""
    everything = Jobs(study).all()
    names = _with_needs({job.name for job in everything if wanted.has(job) or job.kind == "prepare"}, everything)
    runs = {(job.part, job.is_candidate) for job in everything if job.kind == "run" and job.name in names}
    together = {
        job.name for job in everything if not job.arm and job.is_of_runs and (job.part, job.is_candidate) in runs
    }
    names = _with_needs(names | together, everything)
    return [job for job in everything if job.name in names]


def _with_needs(names: set[str], everything: Sequence[Job]) -> set[str]:
    """The jobs, and all that they wait for."""
    needs_of = {job.name: {*job.needs} for job in everything}
    while more := needs_of.keys() & set().union(*map(needs_of.__getitem__, names)) - names:
        names = names | more
    return names


@dataclass
class Runner:
    """Runs a study.

    Attributes:
        console: takes the lines and the bar.
        wanted: the part of it.
        launcher: of hydra's, for the runs; None: one after the other.
        python: from arguments of Python, what starts it with them.
        failed: names of jobs.
    """

    study: Study
    console: Console
    wanted: Wanted = field(default_factory=Wanted)
    launcher: Launcher | None = None
    python: Callable[[list[str]], list[str]] = lambda arguments: [sys.executable, *arguments]
    failed: list[str] = field(default_factory=list)

    def run(self) -> bool:
        """Run what is not done and can be paid; whether all of it is done in the end.

        Raises:
            ConfigError: another process runs this study.
        """
        folder = Path(self.study.folder)
        folder.mkdir(parents=True, exist_ok=True)
        with self._alone(folder):
            self.diary = Diary.read(folder)
            self.diary.begin()
            while (job := self._next()) and self._can_pay_for(job):
                self._do(self._together(job))
        return not self.failed and not self._held_up()

    @contextmanager
    def _alone(self, folder: Path) -> Iterator[None]:
        try:
            lock = hold(folder, patience_s=1.0)
        except FpaError:
            raise ConfigError(
                f"{folder}: this study is running; `fpa-verl study --status` in its place shows how far it is"
            ) from None
        with lock:
            yield

    # ---- which ------------------------------------------------------------------------------------

    def _jobs(self) -> list[Job]:
        return wanted_jobs(self.study, self.wanted)

    def _open(self) -> list[Job]:
        """Those that can run and are not done."""
        jobs = self._jobs()
        done = {job.name for job in jobs if self._is_done(job)}
        # Where runs validate themselves, no snapshots of candidates are waited for.
        known = {job.name for job in jobs}
        return [
            job
            for job in jobs
            if job.name not in done
            and job.name not in self.failed
            and job.command is not None
            and done.issuperset(known.intersection(job.needs))
        ]

    def _is_done(self, job: Job) -> bool:
        """Also of a dataset whether it was made, or looked at last, by the command that the study has now."""
        past = self.diary.jobs.get(job.name)
        is_another = past is not None and (past.error or past.words not in ("", job.words))
        return job.is_done and not (job.kind in MADE_ONCE and is_another)

    def _next(self) -> Job | None:
        return next(iter(self._open()), None)

    def _together(self, job: Job) -> list[Job]:
        """The job, and with a launcher all other runs that can begin now."""
        if self.launcher is None or job.kind != "run":
            return [job]
        return [one for one in self._open() if one.kind == "run" and one.part == job.part]

    def _held_up(self) -> list[Job]:
        """Jobs that did not run: others failed, or the budget is spent."""
        return [job for job in self._jobs() if not self._is_done(job) and job.name not in self.failed]

    def _can_pay_for(self, job: Job) -> bool:
        budget = self.study.budget_device_hours
        if budget is None or (spent := device_hours(Jobs(self.study).all())) < budget:
            return True
        self._say(
            f"budget_device_hours={budget:g} is spent ({spent:.2f}), and {job.name} is not begun: raise it in the "
            "study's file and repeat the command"
        )
        return False

    # ---- doing it ---------------------------------------------------------------------------------

    def _do(self, jobs: list[Job]) -> None:
        """Run one job, or several through a launcher, and write down what became of each."""
        everything = self._jobs()
        numbers = [1 + [one.name for one in everything].index(job.name) for job in jobs]
        place = f"[{'-'.join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))}/{len(everything)}]"
        name = jobs[0].name if len(jobs) == 1 else f"{len(jobs)} runs, {self.launcher.name if self.launcher else ''}"
        log = self._log(name)
        for job in jobs:
            before = self.diary.jobs.get(job.name)
            goes_on = before is not None and bool(before.error)
            self.diary.jobs[job.name] = Past(time.time(), log=str(log), words=job.words, goes_on=goes_on)
        self.diary.write()
        if not self.console.is_terminal:
            self._say(f"{place} {name} ...")
        launcher = self.launcher if jobs[0].kind == "run" else None
        words = launcher.command(Path(self.study.folder), jobs) if launcher else self._typed(jobs[0])
        status = self._run(words, jobs, f"{place} {name}", log)
        is_interrupted = status in (-signal.SIGINT, INTERRUPTED)
        for job in jobs:
            past = self.diary.jobs[job.name]
            # What is side by side takes that long together.
            past.seconds = (time.time() - past.began) / len(jobs)
            self._conclude(job, place, log, status, is_interrupted=is_interrupted)
        self.diary.write()
        if is_interrupted:
            raise KeyboardInterrupt

    def _typed(self, job: Job) -> list[str]:
        """What is run: the command, by this Python."""
        if isinstance(job.command, Command):
            return self.python([*job.command.start[1:], *job.command.arguments])
        assert job.command is not None
        program, *arguments = job.command
        beside = Path(sys.executable).with_name(program)
        return [str(beside) if beside.exists() else program, *arguments]

    def _log(self, name: str) -> Path:
        log = Path(self.study.folder) / LOGS / f"{NO_FILE_NAME.sub('_', name)}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return log

    def _conclude(self, job: Job, place: str, log: Path, status: int, *, is_interrupted: bool) -> None:
        past = self.diary.jobs[job.name]
        took = time.time() - past.began
        if job.is_done and (status == 0 or job.kind not in MADE_ONCE):
            accuracy = reached(job)
            self._say(f"✓ {place} {job.name}  {duration(took)}{', ' if accuracy else ''}{accuracy}")
        elif is_interrupted:
            past.error = "interrupted"
        else:
            # What a launcher prints says nothing of a run.
            own = job.folder / LOG_FILE
            log = own if self.launcher and job.kind == "run" and own.exists() else log
            past.log, past.error = str(log), last_lines(log) or f"exit status {status}, and nothing was printed"
            self.failed.append(job.name)
            self._say(f"✗ {place} {job.name}: exit status {status}; its log: {log}\n{past.error}")

    def _run(self, words: list[str], jobs: list[Job], name: str, log: Path) -> int:
        """Run a command with what it prints in the log, and its progress on the terminal."""
        began = said = time.monotonic()
        # What is on disk of all the others stays as it is meanwhile: looked at once, and not twice a second.
        far, left = self._far(jobs), self._left(jobs)
        with open(log, "ab") as sink, bar(self.console) as show:
            sink.write(f"{BEGINS}{time.strftime('%Y-%m-%d %H:%M:%S')}  {shlex.join(words)}\n".encode())
            sink.flush()
            process = subprocess.Popen(words, stdout=sink, stderr=subprocess.STDOUT, preexec_fn=end_with_parent)
            try:
                while process.poll() is None:
                    time.sleep(LOOK_EVERY_S)
                    if show is None and time.monotonic() - said < PLAIN_EVERY_S:
                        continue
                    # Files that are just being written.
                    with suppress(FpaError, OSError):
                        state, to_come = far(), left(time.monotonic() - began)
                        if show is not None:
                            show(name, state, ", ".join(filter(None, (state.note, to_come))))
                        else:
                            self._say("; ".join(filter(None, (f"{name}: {state}", to_come))))
                    said = time.monotonic()
            except KeyboardInterrupt:
                # The command was told as well, and writes down how far it came.
                process.wait()
                return INTERRUPTED
        return process.returncode

    def _far(self, jobs: list[Job]) -> Callable[[], State]:
        """Says how far a job is; of several, how many are done."""
        if len(jobs) > 1:
            return lambda: State("training", sum(job.is_done for job in jobs), len(jobs), "runs")
        reader = reader_of(jobs[0], self.diary, time.time())
        return lambda: reader.state(time.time())

    def _left(self, running: list[Job]) -> Callable[[float], str]:
        """Says in words how long all takes that is still to do, so many seconds after these jobs began."""
        ahead, jobs = Ahead(self.study, self.diary), self._jobs()
        names = {*self.failed, *(job.name for job in running)}
        own = ahead.together(running, jobs)
        others = ahead.together([job for job in jobs if job.name not in names and not job.is_done], jobs)
        if own is None or others is None:
            return lambda seconds: ""
        return lambda seconds: f"{duration(others + max(0.0, own - seconds))} left of all"

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def conclude(self) -> None:
        """Name what failed and what was held up by it."""
        for name in self.failed:
            self._say(f"failed: {name} ({self.diary.jobs[name].log})")
        if held_up := self._held_up():
            self._say(f"not run: {', '.join(job.name for job in held_up)}")
            failed = [job for job in self._jobs() if job.is_candidate and job.name in self.failed]
            for arm in dict.fromkeys(job.arm for job in failed):
                names = ", ".join(job.name for job in failed if job.arm == arm)
                self._say(f"{arm} waits for {names}: take what fails out of its `choose`, or mend it")
        if self.failed or held_up:
            self._say(AGAIN)


def last_lines(log: Path) -> str:
    """What a command printed last, of its latest attempt."""
    text = log.read_text(encoding="utf-8", errors="replace").rpartition(f"\n{BEGINS}")[2]
    return "\n".join(f"  {line[:300]}" for line in text.splitlines()[1:][-LAST_LINES:])
