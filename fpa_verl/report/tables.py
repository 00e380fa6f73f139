"""A comparison as a terminal table and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

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
        data = hours(run.dataset_device_seconds / SECONDS_PER_HOUR) if run.data_cost_is_known else "not known"
        spent = [run.phase_device_seconds.get(phase, 0.0) / SECONDS_PER_HOUR for phase in columns.values() if phase]
        rows.append([run.name, data, *map(hours, spent)])
    return ["run", *columns], rows


def summary_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one line a recipe, over its runs (seeds)."""
    rows = []
    for recipe in dict.fromkeys(curve.recipe for curve in comparison.curves):
        curves = [curve for curve in comparison.curves if curve.recipe == recipe]
        last = [curve.points[-1].accuracy for curve in curves]
        cost = [curve.points[-1].device_hours for curve in curves]
        spread = f"{percent(min(last))} to {percent(max(last))}" if len(last) > 1 else "-"
        rows.append([recipe, str(len(curves)), percent(mean(last)), spread, hours(mean(cost))])
    return ["recipe", "runs", "last accuracy, mean", "spread", "cost, mean"], rows


def captions(comparison: Comparison) -> tuple[str, str, str]:
    hardware = comparison.runs[0].info["hardware"]
    return (
        f"Accuracy on {comparison.data_source} against device-time ({hardware['device']})",
        "Device-time by phase (* outside the cost)",
        "By recipe",
    )


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know beside the numbers."""
    imported = [
        f"{run.name}: its data was imported; what generating it cost is not known and not counted"
        for run in comparison.runs
        if not run.data_cost_is_known
    ]
    unscored = [
        f"{run.name}: {run.unscored} samples of its evaluations could not be generated or scored and are left out"
        for run in comparison.runs
        if run.unscored
    ]
    return imported + unscored


def _all_rows(comparison: Comparison) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(caption, header, rows) of every table."""
    parts = (accuracy_rows(comparison), cost_rows(comparison), summary_rows(comparison))
    for caption, (header, rows) in zip(captions(comparison), parts, strict=True):
        yield caption, header, rows


def rich_tables(comparison: Comparison) -> list[Table]:
    """The tables for a terminal."""
    tables = []
    for caption, header, rows in _all_rows(comparison):
        table = Table(title=caption, title_justify="left")
        for i, name in enumerate(header):
            table.add_column(name, justify="left" if i == 0 else "right", no_wrap=i == 0)
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return tables


def markdown(comparison: Comparison) -> str:
    """The tables as Markdown."""
    parts = []
    for caption, header, rows in _all_rows(comparison):
        lines = [
            f"**{caption}**",
            "",
            "| " + " | ".join(header) + " |",
            "| " + " | ".join("---" for _ in header) + " |",
        ]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *notes(comparison)]) + "\n"
