"""`fpa-verl demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fpa_verl.cli.console import console


def demo(
    folder: Annotated[Path, typer.Option(help="Where problems/ and base_model/ go.")] = Path("runs/demo"),
    regime: Annotated[
        str,
        typer.Option(help="habit: a bad habit; slips: weak, off by single steps; traces: may think before it answers."),
    ] = "habit",
    test_problems: Annotated[int, typer.Option(min=1, help="How many to judge by.")] = 1536,
    train_base: Annotated[
        bool, typer.Option("--train-base", help="Train the base model anew, some minutes; default: the package's own.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Of --train-base.")] = None,
) -> None:
    """Write the demo's problems and base model, from which `fpa-verl study demo` begins."""
    from fpa_verl.demo.make import make_problems, place_base_model, regime_of, train_base_model
    from fpa_verl.errors import ConfigError

    taught = regime_of(regime)
    if steps is not None and not train_base:
        raise ConfigError("--steps says nothing without --train-base")
    if not train_base:
        place_base_model(folder, regime)
    else:
        total = steps or taught.steps
        with console.status("warm start") as status:

            def show(step: int, loss: float) -> None:
                status.update(f"warm start, step {step:,} of {total:,}, loss {loss:.3f}")

            train_base_model(folder, regime, total, show)
    make_problems(folder, regime, test_problems)
    console.print(f"{folder}/problems and {folder}/base_model", markup=False, highlight=False)
