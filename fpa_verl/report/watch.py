"""`fpa-verl watch`: how far runs are, what they have cost and what they have reached, from the files they write.

Beside runs that train, all that counts what it makes: collections, evaluations, caches of a reference.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fpa_verl.errors import DatasetError, FpaError
from fpa_verl.files import read_json_lines
from fpa_verl.report.comparable import problem_sets, require_comparable
from fpa_verl.report.statistics.base import with_pooled_base
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR, Curve, CurvePoint, curve_of
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.ledger import read_spending
from fpa_verl.runs.names import LEDGER_FILE, LOG_FILE, PROGRESS_FILE
from fpa_verl.runs.progress import (
    FINISHED,
    SILENT_SECONDS,
    STOPPED,
    Progress,
    duration,
    progress_of,
    read_count,
    silent_for,
    was_stopped,
)
from fpa_verl.runs.run import Run
from fpa_verl.tables import UNKNOWN, percent


def best_at(curves: list[Curve], device_hours: float) -> tuple[str, CurvePoint] | None:
    """The most accurate of other runs when they had cost as much, by its last evaluation until then."""
    reached = []
    for curve in curves:
        # Step 0 is the base model, which no method has to its credit.
        paid = [p for p in curve.points if p.step and p.device_hours <= device_hours and p.accuracy >= 0]
        if paid:
            reached.append((curve.run, paid[-1]))
    return max(reached, key=lambda one: one[1].accuracy, default=None)


def frame(runs: Sequence[Run], now: float, counted: Sequence[Path] = ()) -> Group:
    """One picture at unix time `now`.

    Args:
        runs: that train.
        now: as it is shown.
        counted: folders in which something is counted, or will be once it has started.
    """
    parts: list[Text | Table] = []
    if counted:
        parts += [_counts(counted, now), Text("")] if runs else [_counts(counted, now)]
    if runs:
        parts += _progress(runs, now)
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    device = runs[0].info["hardware"]["device"] if runs else ""
    return Group(Text(f"{clock}  {device}".rstrip(), style="dim"), *parts)


def _table(name: str, *numbers: str, last: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    # Names may wrap where the terminal is narrow; numbers must not be cut off.
    table.add_column(name, overflow="fold")
    table.add_column("")
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    table.add_column(last, overflow="fold")
    return table


def _progress(runs: Sequence[Run], now: float) -> list[Text | Table]:
    """The table of runs, and what its numbers are."""
    source = next(iter(problem_sets(list(runs))), "")
    runs = with_pooled_base(list(runs))
    curves = {run.folder: curve_of(run, source) for run in runs}
    table = _table("run", "step", "left", "dev.-h", "accuracy", last="at this cost")
    for run in runs:
        others = [curves[one.folder] for one in runs if one is not run and not one.missing_cost and _alike(run, one)]
        table.add_row(*_row(run, progress_of(run, now), curves[run.folder].points, others))
    note = (
        f"accuracy on {source} (%); device-hours: the dataset included, start-up and evaluation left out; "
        "at this cost: the best of comparable runs; step 0: the base model, its evaluations by all runs together"
    )
    return [table, Text(note, style="dim")]


def _alike(run: Run, other: Run) -> bool:
    """Whether a report would put the two side by side."""
    try:
        require_comparable([run, other])
    except FpaError:
        return False
    return True


def _row(run: Run, progress: Progress, points: list[CurvePoint], others: list[Curve]) -> tuple[Text | ProgressBar, ...]:
    spent = run.inputs_cost.device_seconds + run.spending.cost.device_seconds
    device_hours = spent / SECONDS_PER_HOUR
    accuracy = f"{percent(points[-1].accuracy)} ± {percent(points[-1].standard_error)}" if points else "-"
    cost = UNKNOWN if run.missing_cost else f"{device_hours:,.3f}"
    best = None if run.missing_cost else best_at(others, device_hours)
    total = UNKNOWN if progress.total is None else f"{progress.total:,}"
    left = progress.state if progress.remaining is None else duration(progress.remaining)
    if progress.state.startswith("silent"):
        left = progress.state
    return (
        Text(run.name),
        ProgressBar(total=progress.total or 1, completed=progress.step if progress.total else 0, width=8),
        Text(f"{progress.step:,}/{total}"),
        _left(left),
        Text(cost if run.data_cost_is_known else f"{cost} + data"),
        Text(accuracy),
        Text(f"{percent(best[1].accuracy)} {best[0]}" if best else "-"),
    )


def _counts(folders: Sequence[Path], now: float) -> Table:
    """The table of what is counted, or will be."""
    table = _table("folder", "there", "left", "dev.-h", last="a second")
    for folder, name in _names(folders).items():
        count, state = read_count(folder), _state(folder, now)
        is_over = count is not None and count.over
        rate = UNKNOWN if count is None or count.a_second is None else f"{count.a_second:,.1f}"
        table.add_row(
            Text(name if count is None or is_over else f"{name}, {count.doing}"),
            ProgressBar(total=count.total or 1 if count else 1, completed=count.done if count else 0, width=8),
            Text(f"{count.done:,}/{count.total:,} {count.unit}" if count else UNKNOWN),
            _left(state),
            Text(f"{read_spending(folder).cost.device_seconds / SECONDS_PER_HOUR:,.3f}"),
            Text(rate),
        )
    return table


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """Of each its name, with as many of the folders above it as tell them apart."""
    for depth in range(1, max((len(folder.parts) for folder in folders), default=0) + 1):
        names = {folder: str(Path(*folder.parts[-depth:])) for folder in folders}
        if len(set(names.values())) == len(names):
            return names
    return {folder: str(folder) for folder in folders}


def _state(folder: Path, now: float) -> str:
    """How it is with what is counted, or will be, and how long it takes."""
    count, silent = read_count(folder), silent_for(folder, now)
    if count is not None and count.over:
        return FINISHED
    if was_stopped(read_json_lines(folder / LEDGER_FILE)):
        return STOPPED
    if silent > SILENT_SECONDS:
        return f"silent for {duration(silent)}"
    remaining = count.remaining(now) if count else None
    return "starting" if remaining is None else duration(remaining)


def _left(text: str) -> Text:
    return Text(text, style={FINISHED: "green"}.get(text, "red" if text.startswith(("silent", "stopped")) else ""))


def watched(given: Sequence[str]) -> tuple[list[Run], list[Path]]:
    """Runs that train, and folders in which something else is counted; what is not there yet is not among them.

    Raises:
        DatasetError: there is nothing but logs of verl.
    """
    there = [one for one in given if Path(one).exists() or glob(one.partition("=")[2] or one, recursive=True)]
    found = find_runs(there, apart=True) if there else []
    runs = [run for run in found if not run.log]
    if found and not runs:
        raise DatasetError(f"{found[0].folder}: a log of verl does not say how far its run is: give run directories")
    folders = [Path(match) for one in there for match in (glob(one, recursive=True) or [one])]
    # A run that trains counts the answers of its validations.
    of_runs = {run.folder for run in runs}
    below = {file.parent for folder in folders if folder.is_dir() for file in _files_of_commands(folder)}
    return runs, sorted(folder for folder in below - of_runs if read_count(folder) or _has_begun(folder))


def _files_of_commands(folder: Path) -> list[Path]:
    return [file for name in (PROGRESS_FILE, LOG_FILE) for file in folder.rglob(name)]


def _has_begun(folder: Path) -> bool:
    """Whether a command has a log there, and nothing yet to count: it starts Ray and the servers, or failed to."""
    return not (folder / PROGRESS_FILE).exists() and not read_spending(folder).finished


def _states(runs: Sequence[Run], counted: Sequence[Path], now: float) -> set[str]:
    """How it is with all that has begun; what is silent and never came to count anything is no part of it."""
    of_runs = {progress_of(run, now).state for run in runs}
    others = [(read_count(folder), _state(folder, now)) for folder in counted]
    return of_runs | {state for count, state in others if count or not state.startswith("silent")}


def watch(given: Sequence[str], console: Console, every_s: float) -> None:
    """Draw anew every so many seconds, until all is finished or the user has seen enough.

    Where nothing is there yet, or all was finished before, it waits for what comes; but where no terminal looks on, it
    does not wait for what may never come: it ends where nothing goes on.
    """
    known: set[Path] | None = None
    saw_one = False
    with Live(console=console, auto_refresh=False) as live:
        while True:
            now = time.time()
            runs, counted = watched(given)
            folders = {run.folder for run in runs} | set(counted)
            known = folders if known is None else known
            states = _states(runs, counted, now)
            is_over = states == {FINISHED}
            saw_one |= bool(folders) and (not is_over or folders != known)
            parts = [frame(runs, now, counted)] if folders else []
            if not folders or (is_over and not saw_one):
                parts.append(Group(Text(_nothing_goes_on(given, bool(folders), console.is_terminal), style="dim")))
            live.update(Group(*parts), refresh=True)
            if (is_over and saw_one) or not (console.is_terminal or states - {FINISHED, STOPPED}):
                return
            time.sleep(every_s)


def _nothing_goes_on(given: Sequence[str], is_there: bool, waits: bool) -> str:
    state = "all is finished in" if is_there else "nothing yet in"
    more = ": waiting for a run to begin (Ctrl-C ends this)" if waits else ""
    return f"{state} {', '.join(given)}{more}"
