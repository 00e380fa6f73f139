"""`fpa-verl demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[Path, typer.Option(help="Everything the demo makes.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seed of data order and sampling; the base model stays the same.")] = 0,
    recipe: Annotated[
        list[str] | None, typer.Option(help="Recipe to train; may be repeated. Default: the three of the comparison.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option(help="Hydra override for every recipe; may be repeated.")
    ] = None,
    warm_start_steps: Annotated[
        int | None, typer.Option(help="Steps that make the base model; fewer leave it half trained.")
    ] = None,
) -> None:
    """Warm start, collect, train three ways, evaluate, compare: on two cores, without a GPU."""
    from fpa_verl.demo.pipeline import RECIPES, WARM_START_STEPS, run_demo

    run_demo(
        folder,
        seed=seed,
        recipes=tuple(recipe or RECIPES),
        overrides=tuple(override or ()),
        warm_start_steps=warm_start_steps or WARM_START_STEPS,
    )
