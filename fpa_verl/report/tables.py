"""A comparison as a terminal table and as Markdown."""

from __future__ import annotations

from rich.table import Table

from fpa_verl.report.ledger import (
    CHECKPOINTING,
    EVALUATION,
    GENERATION,
    LOG_PROBS,
    OTHER,
    STARTUP,
    TRAINING,
    WEIGHT_SYNC,
)
from fpa_verl.report.wallclock import SECONDS_PER_HOUR, Comparison

NOT_REACHED = "not reached"


def hours(value: float | None) -> str:
    """Hours in a unit that keeps three digits: the demo lasts minutes, a real run days."""
    if value is None:
        return NOT_REACHED
    return f"{value:.2f} h" if value >= 1 else f"{value * 60:.2f} min"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def accuracy_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: accuracy, its error, and the cost to each target."""
    header = ["run", "recipe", "base", "best (± s.e.)", "at", "last", "total"]
    header += [f"to {percent(target)}" for target in comparison.targets]
    rows = []
    for curve in comparison.curves:
        best, last = curve.best, curve.points[-1]
        rows.append(
            [
                curve.run,
                curve.recipe,
                percent(curve.points[0].accuracy) if curve.points[0].step == 0 else "-",
                f"{percent(best.accuracy)} ± {100 * best.standard_error:.1f}",
                hours(best.device_hours),
                percent(last.accuracy),
                hours(last.device_hours),
                *(hours(curve.device_hours_to(target)) for target in comparison.targets),
            ]
        )
    return header, rows


def cost_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: device-time by phase; the last two columns are outside the cost."""
    columns = {
        "data": None,
        "generation": GENERATION,
        "log-probs": LOG_PROBS,
        "training": TRAINING,
        "weight sync": WEIGHT_SYNC,
        "checkpoints": CHECKPOINTING,
        "other": OTHER,
        "start-up*": STARTUP,
        "evaluation*": EVALUATION,
    }
    rows = []
    for run in comparison.runs:
        seconds = [
            run.dataset_device_seconds if phase is None else run.phase_device_seconds.get(phase, 0.0)
            for phase in columns.values()
        ]
        rows.append([run.name, *(hours(value / SECONDS_PER_HOUR) for value in seconds)])
    return ["run", *columns], rows


def captions(comparison: Comparison) -> tuple[str, str]:
    hardware = comparison.runs[0].info["hardware"]
    return (
        f"Accuracy on {comparison.data_source} against device-time ({hardware['device']})",
        "Device-time by phase (* outside the cost)",
    )


def rich_tables(comparison: Comparison) -> list[Table]:
    """Both tables for a terminal."""
    tables = []
    for caption, (header, rows) in zip(
        captions(comparison), (accuracy_rows(comparison), cost_rows(comparison)), strict=True
    ):
        table = Table(title=caption, title_justify="left")
        for i, name in enumerate(header):
            table.add_column(name, justify="left" if i == 0 else "right", no_wrap=i == 0)
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return tables


def markdown(comparison: Comparison) -> str:
    """Both tables as Markdown."""
    parts = []
    for caption, (header, rows) in zip(
        captions(comparison), (accuracy_rows(comparison), cost_rows(comparison)), strict=True
    ):
        lines = [
            f"**{caption}**",
            "",
            "| " + " | ".join(header) + " |",
            "| " + " | ".join("---" for _ in header) + " |",
        ]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
