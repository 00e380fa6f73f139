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
from fpa_verl.report.comparable import problem_sets, require_comparable
from fpa_verl.report.statistics.base import with_pooled_base
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR, Curve, CurvePoint, curve_of
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.ledger import read_spending
from fpa_verl.runs.names import LOG_FILE, PROGRESS_FILE
from fpa_verl.runs.progress import SILENT_SECONDS, Progress, duration, progress_of, read_count, was_closed
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
        counted: folders in which something is counted.
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
    spent = run.data_cost.device_seconds + run.spending.cost.device_seconds
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
    """The table of what is counted."""
    table = _table("folder", "there", "left", "dev.-h", last="a second")
    names = _names(folders)
    for folder in folders:
        count = read_count(folder)
        if count is None:
            continue
        remaining, silent = count.remaining(now), now - count.time
        left = "starting" if remaining is None else duration(remaining)
        if was_closed(folder):
            left = f"stopped, see {LOG_FILE}"
        elif silent > SILENT_SECONDS:
            left = f"silent for {duration(silent)}"
        rate = UNKNOWN if count.a_second is None else f"{count.a_second:,.1f}"
        table.add_row(
            Text(names[folder] if count.over else f"{names[folder]}, {count.doing}"),
            ProgressBar(total=count.total or 1, completed=count.done, width=8),
            Text(f"{count.done:,}/{count.total:,} {count.unit}"),
            _left("finished" if count.over else left),
            Text(f"{read_spending(folder).cost.device_seconds / SECONDS_PER_HOUR:,.3f}"),
            Text(rate),
        )
    return table


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """The last part of each path, and as many before it as tell it from the others."""
    found = {}
    for folder in folders:
        parts, others = folder.absolute().parts, [one.absolute().parts for one in folders if one != folder]
        alike = [_common(parts, other) for other in others]
        found[folder] = "/".join(parts[-1 - max(alike, default=0) :])
    return found


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """How many last parts two paths have in common."""
    return next(
        (n for n, (a, b) in enumerate(zip(reversed(first), reversed(second), strict=False)) if a != b), len(first) - 1
    )


def _left(text: str) -> Text:
    return Text(text, style={"finished": "green"}.get(text, "red" if text.startswith(("silent", "stopped")) else ""))


def watched(given: Sequence[str]) -> tuple[list[Run], list[Path]]:
    """Runs that train, and folders in which something else is counted; what is not there yet is not among them.

    Raises:
        DatasetError: there is nothing but logs of verl.
    """
    there = [one for one in given if Path(one).exists() or glob(one.partition("=")[2] or one, recursive=True)]
    found = find_runs(there) if there else []
    runs = [run for run in found if not run.log]
    if found and not runs:
        raise DatasetError(f"{found[0].folder}: a log of verl does not say how far its run is: give run directories")
    folders = [Path(match) for one in there for match in (glob(one, recursive=True) or [one])]
    counts = sorted({file.parent for folder in folders if folder.is_dir() for file in folder.rglob(PROGRESS_FILE)})
    # A run that trains counts the answers of its validations.
    return runs, [folder for folder in counts if folder not in {run.folder for run in runs}]


def _is_over(runs: Sequence[Run], counted: Sequence[Path]) -> bool:
    counts = [read_count(folder) for folder in counted]
    return (
        bool(runs or counts)
        and all(run.finished for run in runs)
        and all(one is None or one.over or was_closed(folder) for folder, one in zip(counted, counts, strict=True))
    )


def watch(given: Sequence[str], console: Console, every_s: float) -> None:
    """Draw anew every so many seconds, until all is finished or the user has seen enough.

    Where nothing is there yet, or all was finished before, it waits for what comes; but where no terminal looks on, it
    does not wait for what may never come.
    """
    known: set[Path] | None = None
    saw_one = not console.is_terminal
    with Live(console=console, auto_refresh=False) as live:
        while True:
            runs, counted = watched(given)
            folders = {run.folder for run in runs} | set(counted)
            known = folders if known is None else known
            is_over = _is_over(runs, counted)
            saw_one |= bool(folders) and (not is_over or folders != known)
            parts = [frame(runs, time.time(), counted)] if folders else []
            if not folders or (is_over and not saw_one):
                state = "all is finished in" if folders else "nothing yet in"
                wait = f"{state} {', '.join(given)}: waiting for a run to begin (Ctrl-C ends this)"
                parts.append(Group(Text(wait, style="dim")))
            live.update(Group(*parts), refresh=True)
            if is_over and saw_one:
                return
            time.sleep(every_s)
