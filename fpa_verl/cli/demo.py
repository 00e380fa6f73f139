"""`fpa-verl demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fpa_verl.cli.console import console


def demo(
    folder: Annotated[Path, typer.Option(help="Where problems/ and base_model/ go.")] = Path("runs/demo"),
    regime: Annotated[
        str, typer.Option(help="habit: a model with a bad habit; slips: a weak one, whose mistakes are single steps.")
    ] = "habit",
    test_problems: Annotated[int, typer.Option(min=1, help="How many to judge by.")] = 1536,
    train_base: Annotated[
        bool, typer.Option("--train-base", help="Train the base model anew, some minutes; default: the package's own.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Of --train-base.")] = None,
) -> None:
    """Write the demo's problems and base model, from which `fpa-verl study demo` begins."""
    from fpa_verl.demo.make import WARM_START_STEPS, make_problems, place_base_model, require_regime, train_base_model
    from fpa_verl.errors import ConfigError

    require_regime(regime)
    if steps is not None and not train_base:
        raise ConfigError("--steps says nothing without --train-base")
    if not train_base:
        place_base_model(folder, regime)
    else:
        total = steps or WARM_START_STEPS
        with console.status("warm start") as status:

            def show(step: int, loss: float) -> None:
                status.update(f"warm start, step {step:,} of {total:,}, loss {loss:.3f}")

            train_base_model(folder, regime, total, show)
    make_problems(folder, test_problems)
    console.print(f"{folder}/problems and {folder}/base_model", markup=False, highlight=False)
