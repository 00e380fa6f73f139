"""A comparison as terminal tables, 80 columns wide, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

from rich import box
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

NOT_REACHED = "-"
# Headers are short for the sake of narrow terminals; starred columns are no part of the cost.
PHASE_COLUMNS = {
    "gen.": GENERATION,
    "logp": LOG_PROBS,
    "train": TRAINING,
    "sync": WEIGHT_SYNC,
    "ckpt": CHECKPOINTING,
    "other": OTHER,
    "start*": STARTUP,
    "eval*": EVALUATION,
}


def unit(comparison: Comparison) -> tuple[str, float]:
    """Device-hours, or device-minutes where everything is short; with what an hour is in it."""
    longest = max(curve.points[-1].device_hours for curve in comparison.curves)
    return ("device-hours", 1.0) if longest >= 1 else ("device-minutes", 60.0)


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def accuracy_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: accuracy in per cent with its standard error, and the cost to each target."""
    _, scale = unit(comparison)

    def cost(hours: float | None) -> str:
        return NOT_REACHED if hours is None else f"{scale * hours:.2f}"

    rows = []
    for curve in comparison.curves:
        first, last = curve.points[0], curve.points[-1]
        rows.append(
            [
                curve.run,
                percent(first.accuracy) if first.step == 0 else "-",
                f"{percent(last.accuracy)} ± {percent(last.standard_error)}",
                percent(curve.best.accuracy),
                cost(last.device_hours),
                *(cost(curve.device_hours_to(target)) for target in comparison.targets),
            ]
        )
    targets = [f"to {100 * target:g}" for target in comparison.targets]
    return ["run", "base", "last ± s.e.", "best", "cost", *targets], rows


def cost_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: device-time by phase."""
    _, scale = unit(comparison)
    rows = []
    for run in comparison.runs:
        data = run.dataset_device_seconds if run.data_cost_is_known else None
        spent = [data, *(run.phase_device_seconds.get(phase, 0.0) for phase in PHASE_COLUMNS.values())]
        rows.append([run.name, *("?" if s is None else f"{scale * s / SECONDS_PER_HOUR:.2f}" for s in spent)])
    return ["run", "data", *PHASE_COLUMNS], rows


def summary_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one line a recipe, over its runs (seeds)."""
    _, scale = unit(comparison)
    rows = []
    for recipe in dict.fromkeys(curve.recipe for curve in comparison.curves):
        curves = [curve for curve in comparison.curves if curve.recipe == recipe]
        last = [curve.points[-1].accuracy for curve in curves]
        cost = [curve.points[-1].device_hours for curve in curves]
        spread = f"{percent(min(last))} to {percent(max(last))}" if len(last) > 1 else "-"
        rows.append([recipe, str(len(curves)), percent(mean(last)), spread, f"{scale * mean(cost):.2f}"])
    return ["recipe", "runs", "last, mean", "spread", "cost, mean"], rows


def captions(comparison: Comparison) -> tuple[str, str, str]:
    """Titles of the three tables, with their units."""
    device, (name, _) = comparison.runs[0].info["hardware"]["device"], unit(comparison)
    return (
        f"Accuracy on {comparison.data_source} (%), and {name} to reach it ({NOT_REACHED}: not reached); {device}",
        f"{name.capitalize()} by phase; data: generating the dataset; *: no part of the cost",
        f"By recipe (%; {name})",
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
        table = Table(title=caption, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for i, name in enumerate(header):
            table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
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
