"""`fpa-verl watch`."""

from __future__ import annotations

from typing import Annotated

import typer

from fpa_verl.cli.console import console


def watch(
    runs: Annotated[list[str] | None, typer.Argument(help="Run directories, folders that hold some, patterns.")] = None,
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 5.0,
) -> None:
    """See how far runs, collections and evaluations are, their cost and accuracy so far, until they are finished.

    Default: ./runs. In a terminal, what has not begun yet is waited for.
    """
    from fpa_verl.report.watch import watch as watch_runs

    try:
        watch_runs(runs or ["runs"], console, every)
    except KeyboardInterrupt:
        console.print("The runs go on.")
