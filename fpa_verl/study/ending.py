"""What a study ends with: the reports that its file names, on its finished runs and no others."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from rich.console import Console

from fpa_verl.errors import ConfigError, DatasetError, FpaError
from fpa_verl.files import atomic_path
from fpa_verl.report.comparisons import COMPARISONS, Options
from fpa_verl.report.output import write_report
from fpa_verl.report.provenance import command_line
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.names import EVALUATIONS_FILE
from fpa_verl.runs.rounds import run_directories
from fpa_verl.study.definition import Study
from fpa_verl.study.jobs import BASE, Job, Jobs, PartJobs
from fpa_verl.tables import as_markdown, for_terminal

REPORT = "report"
CHOICES_FILE = "choosing.md"
# The comparison of what was measured afterwards, by `recipe=evaluate`, as well.
WITH_EVALUATIONS = "paper"
# Comparisons of methods by whatever name; the others know recipes, and settings of them.
BY_ARM = ("wallclock", "paired", "cost", "dynamics")
# Reports that measure all arms by one.
MEASURED_BY_ONE = ("wallclock", "paired")


def require_reports(study: Study) -> None:
    """Refuse a study that ends with a report which there is not.

    Raises:
        ConfigError: naming those that there are.
    """
    for name in study.reports:
        if name not in COMPARISONS:
            raise ConfigError(f"reports: no comparison {name}; choose from {', '.join(COMPARISONS)}")


def write_reports(study: Study, console: Console) -> list[str]:
    """Print and write the reports, part by part; lines on what is in none, and why."""
    problems: list[str] = []
    for part in study.all_parts():
        jobs = [job for job in Jobs(study).all() if job.part == part]
        problems += _left_out(_evaluated(jobs))
        reported = {job.arm for job in _evaluated(jobs) if job.is_judged}
        measures = study.against is None or study.against in reported
        if reported and not measures and set(study.reports) & set(MEASURED_BY_ONE):
            problems.append(f"no run of {study.against}, which the study measures the others by, is in the reports")
        for name in study.reports:
            given = patterns(study, part, jobs, name)
            out = study.part_folder(part) / REPORT
            try:
                _write(study, name, given, out, console, measures=measures)
            except FpaError as error:
                problems.append(f"no report, {f'{part}: ' if part else ''}{name}: {error}")
    return problems


def _left_out(runs: list[Job]) -> Iterator[str]:
    """Which runs are in no report, and why."""
    if unfinished := [job.name for job in runs if not job.is_done]:
        yield f"left out, for they have not come to their end: {', '.join(unfinished)}"
    if unjudged := [job.name for job in runs if job.is_done and not job.is_judged]:
        yield f"left out, for models that they kept were not evaluated: {', '.join(unjudged)}"


def write_choices(study: Study, console: Console) -> None:
    """Print which settings were chosen, from which candidates, and write that beside the reports."""
    for name, part in study.all_parts().items():
        shown = PartJobs(study, name, part).choices()
        for table in shown:
            console.print(for_terminal(table))
        if shown:
            with atomic_path(study.part_folder(name) / REPORT / CHOICES_FILE) as temporary:
                temporary.write_text(as_markdown(shown, []), encoding="utf-8")


def patterns(study: Study, part: str, jobs: list[Job], name: str) -> list[str]:
    """What of a part a report reads, as one types it: the runs that are done and judged, and no candidate."""
    folder, by_arm = study.part_folder(part), dict[str, list[Path]]()
    for job in _evaluated(jobs):
        if job.is_judged:
            by_arm.setdefault(job.arm, []).append(job.folder)
    found = []
    for arm, folders in by_arm.items():
        pattern = f"{folder}/{arm}_seed[0-9]*"
        # One word for all of them, where it means no others.
        shown = [pattern] if {*map(Path, glob(pattern))} == {*folders} else map(str, folders)
        found += [f"{arm}={one}" if name in BY_ARM else one for one in shown]
    if name == WITH_EVALUATIONS:
        found += [str(path) for path in (folder / BASE, folder / "benchmarks") if path.exists()]
    return found


def _evaluated(jobs: list[Job]) -> list[Job]:
    runs = [job for job in jobs if job.kind == "run" and not job.is_candidate]
    return [job for job in runs if any((one / EVALUATIONS_FILE).exists() for one in run_directories(job.folder))]


def _write(study: Study, name: str, given: list[str], out: Path, console: Console, *, measures: bool) -> None:
    if not given:
        raise DatasetError("no run has come to its end and was evaluated yet")
    options = Options(
        targets=study.targets or None if name == "wallclock" else None,
        against=study.against if measures and name in MEASURED_BY_ONE else None,
    )
    runs = find_runs(given, with_evaluations=name == WITH_EVALUATIONS)
    command = command_line(given, {"compare": name, "target": options.targets, "against": options.against})
    write_report(COMPARISONS[name](runs, options), out, console, command, options)
    console.print(f"again: {shlex.join(shlex.split(command))}", markup=False, highlight=False, soft_wrap=True)
