"""`fpa-verl study --plan`: how long what is left of a study takes, by arm, from what its commands took before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from fpa_verl.study.definition import Study
from fpa_verl.study.jobs import Job
from fpa_verl.study.state import Diary, phase_of
from fpa_verl.tables import UNKNOWN, Table

SECONDS_A_MINUTE = 60


@dataclass(frozen=True)
class Ahead:
    """What jobs will take.

    Attributes:
        diary: what they took before, here.
    """

    study: Study
    diary: Diary

    def expected(self, job: Job, jobs: Sequence[Job]) -> tuple[float | None, bool]:
        """Seconds that a job takes, and whether it is a measurement of this machine; None where nobody knows."""
        took = [
            past.seconds
            for one in jobs
            if (one.recipe, one.kind) == (job.recipe, job.kind)
            and (past := self.diary.jobs.get(one.name)) is not None
            and past.seconds is not None
            and not past.error
        ]
        if took:
            return mean(took), True
        for name in (job.arm, job.recipe, job.kind):
            if name in self.study.minutes:
                return self.study.minutes[name] * SECONDS_A_MINUTE, False
        return None, False

    def left(self, jobs: Sequence[Job]) -> float | None:
        """Seconds until all are done; None where that of one is not known."""
        total = 0.0
        for job in jobs:
            if job.is_done:
                continue
            seconds, _ = self.expected(job, jobs)
            if seconds is None:
                return None
            past = self.diary.jobs.get(job.name)
            running = past is not None and past.seconds is None
            total += max(0.0, seconds - (_since(past.began) if running and past else 0.0))
        return total


def _since(began: float) -> float:
    import time

    return time.time() - began


def plan_table(study: Study, jobs: Sequence[Job], diary: Diary) -> Table:
    """What there is to do, a line an arm and each shared command: commands, those done, minutes of each, those left."""
    ahead, groups = Ahead(study, diary), _by_arm(jobs)
    rows, whole, is_known = [], 0.0, True
    for name, members in groups.items():
        open_ = [job for job in members if phase_of(job, diary) != "done"]
        expected = [ahead.expected(job, jobs) for job in members]
        each = [seconds for seconds, _ in expected if seconds is not None]
        left = [ahead.expected(job, jobs)[0] for job in open_]
        is_known = is_known and None not in left
        known = sum(seconds for seconds in left if seconds is not None)
        whole += known
        estimated = any(not measured for _, measured in expected)
        rows.append(
            [
                name,
                str(len(members)),
                str(len(members) - len(open_)),
                _minutes(mean(each), estimated) if each else UNKNOWN,
                _minutes(known, estimated) if None not in left else UNKNOWN,
            ]
        )
    rows.append(["all", str(len(jobs)), str(sum(int(row[2]) for row in rows)), "", _total(whole, is_known)])
    header = ["what", "commands", "done", "min each", "min left"]
    return Table("What is left to do, minutes of wall-clock, one command after the other", header, rows)


def _by_arm(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        own = " / ".join(part for part in (job.part, job.arm) if part) if job.kind == "run" else job.name
        groups.setdefault(own, []).append(job)
    return groups


def _minutes(seconds: float, estimated: bool) -> str:
    return f"{'~' if estimated else ''}{seconds / SECONDS_A_MINUTE:.1f}"


def _total(seconds: float, is_known: bool) -> str:
    return f"{'' if is_known else 'more than '}{seconds / SECONDS_A_MINUTE:.1f}"


def plan_notes(study: Study, jobs: Sequence[Job]) -> list[str]:
    """What a reader must know of the plan."""
    where = f" on {study.tried_on}" if study.tried_on else ""
    notes = [f"~: as it took{where}, from the study's file; measured here once a command of the kind was run."]
    tried = {}
    for part, name, arm in study.all_arms():
        tried[f"{part}/{name}" if part else name] = len(arm.candidates()) if arm.choose else 1
    if len(set(tried.values())) > 1:
        notes.append(
            "Settings are chosen from different numbers of candidates, which favours whoever has more: "
            + ", ".join(f"{name} {count}" for name, count in tried.items())
        )
    if study.budget_device_hours is not None:
        notes.append(f"Nothing is begun once {study.budget_device_hours:g} device-hours are spent.")
    return notes
