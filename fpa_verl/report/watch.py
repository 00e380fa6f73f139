"""`fpa-verl watch`: how far runs are, what they have cost and what they have reached, from the files they write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fpa_verl.errors import DatasetError
from fpa_verl.files import read_json_lines
from fpa_verl.report.comparable import problem_sets
from fpa_verl.report.statistics.base import with_pooled_base
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR, Curve, CurvePoint, curve_of
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.names import CONFIG_FILE, LEDGER_FILE
from fpa_verl.runs.run import Run
from fpa_verl.tables import UNKNOWN, percent

# The pace is that of the last so many steps, evaluations among them.
PACE_STEPS = 50
# A run that wrote nothing for so many of its steps, and for this long, has probably died.
SILENT_STEPS, SILENT_SECONDS = 10, 300


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
    silent = now - records[-1]["time"] if records else 0.0
    total = run.spending.total_steps or _configured_steps(run.folder)
    return Progress(run.spending.last_step, total, pace, max(0.0, silent), run.finished)


def _configured_steps(folder: Path) -> int | None:
    """Steps as configured; None where only epochs are, whose length is the dataloader's to know."""
    file = folder / CONFIG_FILE
    total = OmegaConf.select(OmegaConf.load(file), "trainer.total_training_steps") if file.exists() else None
    return int(total) if total is not None and int(total) > 0 else None


def best_at(curves: list[Curve], device_hours: float) -> tuple[str, CurvePoint] | None:
    """The most accurate of other runs when they had cost as much, by its last evaluation until then."""
    reached = []
    for curve in curves:
        paid = [point for point in curve.points if point.device_hours <= device_hours and point.accuracy >= 0]
        if paid:
            reached.append((curve.run, paid[-1]))
    return max(reached, key=lambda one: one[1].accuracy, default=None)


def frame(runs: list[Run], now: float) -> Group:
    """One picture of the runs at unix time `now`.

    Raises:
        DatasetError: there is no run.
    """
    if not runs:
        raise DatasetError("no runs yet: give run directories, or a folder that holds some")
    source = next(iter(problem_sets(runs)), "")
    runs = with_pooled_base(runs)
    curves = {run.folder: curve_of(run, source) for run in runs}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    # Names may wrap where the terminal is narrow; numbers must not be cut off.
    table.add_column("run", overflow="fold")
    table.add_column("")
    for name in ("step", "left", "dev.-h", "accuracy"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("at this cost", overflow="fold")
    for run in runs:
        others = [curves[other.folder] for other in runs if other is not run and not other.missing_cost]
        table.add_row(*_row(run, progress_of(run, now), curves[run.folder].points, others))
    device = runs[0].info["hardware"]["device"]
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    note = (
        f"accuracy on {source} (%); device-hours: the dataset included, start-up and evaluation left out; "
        "at this cost: the best of the other runs; step 0: the base model, its evaluations by all runs together"
    )
    return Group(Text(f"{clock}  {device}", style="dim"), table, Text(note, style="dim"))


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
        Text(left, style={"finished": "green"}.get(left, "red" if left.startswith("silent") else "")),
        Text(cost if run.data_cost_is_known else f"{cost} + data"),
        Text(accuracy),
        Text(f"{percent(best[1].accuracy)} {best[0]}" if best else "-"),
    )


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds where there are no hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _watched(given: Sequence[str]) -> list[Run]:
    """Logs of verl do not say how far a run is to go."""
    return [run for run in find_runs(given) if not run.log]


def watch(given: Sequence[str], console: Console, every_s: float) -> None:
    """Draw the runs anew every so many seconds, until all of them are finished or the user has seen enough."""
    runs = _watched(given)
    with Live(frame(runs, time.time()), console=console, auto_refresh=False) as live:
        while not all(run.finished for run in runs):
            time.sleep(every_s)
            runs = _watched(given)
            live.update(frame(runs, time.time()), refresh=True)
