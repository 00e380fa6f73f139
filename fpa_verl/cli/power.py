"""`fpa-verl power`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fpa_verl.cli.console import console
from fpa_verl.errors import DatasetError


def power(
    difference: Annotated[float, typer.Argument(help="In accuracy, from 0 to 1: 0.02 for 2 points.")],
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Two runs, one, or seeds of each method; none: the paper's benchmarks, under assumptions."),
    ] = None,
    on: Annotated[str | None, typer.Option(help="Problem set; default: all that are not validation.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for Markdown and JSON; default: RUNS/report.")] = None,
) -> None:
    """How many problems and samples it takes to see a difference between two runs."""
    from fpa_verl.report.provenance import command_line

    report_power(difference, runs or [], on, out, command_line([str(difference), *(runs or [])], {"on": on}, "power"))


def report_power(difference: float, given: list[str], on: str | None, out: Path | None, command: str) -> None:
    """Print and write it; `command` is what was typed."""
    from fpa_verl.report.output import report_folder, write_tables
    from fpa_verl.runs.find import find_runs
    from fpa_verl.study.power import required

    found = find_runs(given, with_evaluations=True)
    if given and not found:
        raise DatasetError(f"no run in {', '.join(given)}: name runs that were evaluated, or none for assumptions")
    comparison = required(difference, found, on)
    folder = out or report_folder(given, found)
    write_tables(comparison, folder, console, command)
    console.print(f"Markdown and JSON: {folder}/{comparison.name}.*", highlight=False, markup=False)
