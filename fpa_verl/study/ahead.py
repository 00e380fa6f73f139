"""`fpa-verl study --plan`: how long what is left of a study takes, by arm, from what its commands took before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from fpa_verl.commands import Command, key_of
from fpa_verl.runs.summary import SECONDS_PER_HOUR
from fpa_verl.study.definition import Study
from fpa_verl.study.jobs import Job
from fpa_verl.study.state import Diary, phase_of
from fpa_verl.tables import SECONDS_A_MINUTE, UNKNOWN, Table, time_unit

# Keys that say how far a run goes: rounds, and the steps of a rung of successive halving.
LENGTHS = (
    *("rounds", "trainer.total_training_steps", "trainer.total_epochs"),
    *(f"scale.{side}.{name}" for side in ("offline", "online") for name in ("steps", "epochs")),
)


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
            if _alike(one) == _alike(job)
            and (past := self.diary.jobs.get(one.name)) is not None
            and past.seconds is not None
            and not past.error
            and not past.goes_on
        ]
        if took:
            return mean(took), True
        # Of an arm's runs, and not of its benchmarks.
        of_arm = (job.arm,) if job.kind == "run" else ()
        for name in (*of_arm, job.recipe, job.kind):
            if name in self.study.minutes:
                times = self.study.all_parts()[job.part].minutes_times if job.kind != "prepare" else 1.0
                return times * self.study.minutes[name] * SECONDS_A_MINUTE, False
        return None, False

    def together(self, some: Sequence[Job], jobs: Sequence[Job]) -> float | None:
        """Seconds that some of the jobs take one after the other; None where that of one is not known."""
        expected = [self.expected(job, jobs)[0] for job in some]
        return None if None in expected else sum(seconds for seconds in expected if seconds is not None)


def _alike(job: Job) -> tuple[str, ...]:
    """What jobs have in common that take as long: part, recipe, kind, and how far they go."""
    words = job.command.overrides if isinstance(job.command, Command) else ()
    return job.part, job.recipe, job.kind, *sorted(word for word in words if key_of(word) in LENGTHS)


def plan_table(study: Study, jobs: Sequence[Job], diary: Diary) -> Table:
    """What there is to do, a line an arm and each shared command: commands, those done, time of each, time left."""
    ahead, groups = Ahead(study, diary), _by_arm(jobs)
    expected = {job.name: ahead.expected(job, jobs) for job in jobs}
    left = {
        name: [expected[job.name][0] for job in members if phase_of(job, diary) != "done"]
        for name, members in groups.items()
    }
    whole = sum(seconds for one in left.values() for seconds in one if seconds is not None)
    unit = time_unit(max((seconds or 0.0 for seconds, _ in expected.values()), default=0.0) / SECONDS_PER_HOUR)

    def shown(seconds: float, *, estimated: bool) -> str:
        return f"{'~' if estimated else ''}{seconds / SECONDS_PER_HOUR * unit.an_hour:.1f}"

    rows = []
    for name, members in groups.items():
        each = [seconds for seconds, _ in (expected[job.name] for job in members) if seconds is not None]
        estimated = any(not measured for _, measured in (expected[job.name] for job in members))
        known = [seconds for seconds in left[name] if seconds is not None]
        rows.append(
            [
                name,
                str(len(members)),
                str(len(members) - len(left[name])),
                shown(mean(each), estimated=estimated) if each else UNKNOWN,
                shown(sum(known), estimated=estimated) if len(known) == len(left[name]) else UNKNOWN,
            ]
        )
    is_known = all(None not in one for one in left.values())
    estimated = any("~" in cell for row in rows for cell in row)
    total = f"{'' if is_known else 'more than '}{shown(whole, estimated=estimated)}"
    rows.append(["all", str(len(jobs)), str(sum(int(row[2]) for row in rows)), "", total])
    header = ["what", "commands", "done", f"{unit.sign} each", f"{unit.sign} left"]
    return Table(f"What is left to do, {unit.word} of wall-clock, one command after the other", header, rows)


def _by_arm(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        name = {"run": job.arm, "benchmarks": "benchmarks"}.get(job.kind)
        groups.setdefault(job.name if name is None else f"{job.part}: {name}" if job.part else name, []).append(job)
    return groups


def plan_notes(study: Study, jobs: Sequence[Job]) -> list[str]:
    """What a reader must know of the plan."""
    source = f" ({study.minutes_from})" if study.minutes_from else ""
    notes = []
    if study.minutes:
        notes.append(f"~: what the study's file says{source}; measured here once a command of the kind was run.")
    tried = {}
    for part, name, arm in study.all_arms():
        tried[f"{part}/{name}" if part else name] = len(arm.candidates())
    if len(set(tried.values())) > 1:
        notes.append(
            "Settings are chosen from different numbers of candidates, which favours whoever has more: "
            + ", ".join(f"{name} {count}" for name, count in tried.items())
        )
    if study.budget_device_hours is not None:
        notes.append(f"Nothing is begun once {study.budget_device_hours:g} device-hours are spent.")
    return notes
