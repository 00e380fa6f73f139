"""A comparison on the terminal and in files: page, figures, Markdown and JSON, each written whole."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from fpa_verl import tables
from fpa_verl.files import atomic_path, write_json
from fpa_verl.report import figures
from fpa_verl.report.comparison import Comparison, Headline
from fpa_verl.report.comparisons import Options
from fpa_verl.report.page import render_page
from fpa_verl.report.provenance import Provenance, default_command, provenance
from fpa_verl.runs.run import Run

PAGE = "report.html"


def write_report(
    comparison: Comparison,
    out: Path,
    console: Console,
    command: str | None = None,
    options: Options | None = None,
) -> None:
    """Print and write what `write_tables` does, `out`/NAME*.{png,svg} and the page.

    Args:
        comparison: what is asked for; the page holds every other comparison of the same runs as well.
        out: folder, made if need be.
        console: takes the tables.
        command: what was typed to get this report, for those who want it again.
        options: what the other comparisons on the page are asked for.
    """
    source = write_tables(comparison, out, console, command or default_command(comparison.runs, comparison.name))
    drawn = figures.draw(comparison)
    for name, figure in drawn.items():
        for suffix in ("png", "svg"):
            figures.save(figure, out / f"{name}.{suffix}")
    _write_text(out / PAGE, render_page(comparison, drawn, source, options or Options()))
    written = f"Figures, Markdown and JSON: {out}/{comparison.name}.*; everything on one page: {out}/{PAGE}"
    console.print(written, highlight=False, markup=False)


def write_tables(comparison: Comparison, out: Path, console: Console, command: str) -> Provenance:
    """Print the tables and notes, and write them to `out`/NAME.{json,md}."""
    shown, notes, first = comparison.tables(), comparison.notes(), comparison.headline()
    if first:
        _print_headline(first, console)
    for table in shown:
        console.print(tables.for_terminal(table))
    for note in notes:
        console.print(note, highlight=False, markup=False)
    source = provenance(comparison.runs, command)
    begins = {"headline": first.as_json()} if first else {}
    content = {**begins, **comparison.as_json(), "provenance": source.as_json()}
    write_json(out / f"{comparison.name}.json", _finite(content))
    _write_text(out / f"{comparison.name}.md", _headline_as_markdown(first) + tables.as_markdown(shown, notes))
    return source


def _print_headline(first: Headline, console: Console) -> None:
    console.print(" ".join(first.sentences), highlight=False, markup=False)
    for command in first.commands:
        # In one line, whatever the width: it is there to be copied.
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)
    console.print()


def _headline_as_markdown(first: Headline | None) -> str:
    if first is None:
        return ""
    commands = "\n".join(["```bash", *first.commands, "```"]) if first.commands else ""
    return "\n\n".join(filter(None, [" ".join(first.sentences), commands])) + "\n\n"


def report_folder(given: Sequence[str | Path], runs: list[Run]) -> Path:
    """Where a report on the runs found at `given` goes: beside them."""
    if len(given) == 1 and Path(given[0]).is_dir():
        return Path(given[0]) / "report"
    return Path(os.path.commonpath([run.folder.absolute().parent for run in runs] or [Path.cwd()])) / "report"


def _write_text(target: Path, text: str) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _finite(value: Any) -> Any:
    """JSON knows neither infinity nor NaN: null stands for what was not reached or not measured."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
