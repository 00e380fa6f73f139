"""`fpa-verl task`: a task of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fpa_verl.cli.console import console
from fpa_verl.cli.options import RewardArgs, given_function

task_app = typer.Typer(no_args_is_help=True, help="Make a task file for problems and a model of one's own.")


# With a callback `new` stays a word of the command, though there is no other.
@task_app.callback()
def _task() -> None:
    pass


@task_app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Of the task: what task=NAME will choose.")],
    problems: Annotated[Path, typer.Option(help="Training problems, as `fpa-verl data problems` writes them.")],
    test: Annotated[Path, typer.Option(help="Test problems, likewise.")],
    model: Annotated[str, typer.Option(help="The base model: folder or Hugging Face name.")],
    folder: Annotated[Path, typer.Option(help="Where recipes of your own are.")] = Path("my_recipes"),
    rollouts: Annotated[
        Path | None, typer.Option(help="A rollout dataset of these problems, if there is one; default: collected.")
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            help="A reward function of your own, FILE.py:FUNCTION, or `verl` for its choice by data_source; default: "
            "that of the rollouts, or ours."
        ),
    ] = None,
    reward_args: RewardArgs = None,
    threshold: Annotated[float | None, typer.Option(help="The score from which its responses are right.")] = None,
    response_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest response; default: that of the rollouts, or 2048.")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(help="Of recipes/hardware/; default: h200x2, or cpu where there is no GPU.")
    ] = None,
) -> None:
    """Write a task file with numbers that fit data and model, and print what to type with it, in order."""
    from fpa_verl.errors import ConfigError
    from fpa_verl.paths import RECIPES
    from fpa_verl.tasks.measure import has_gpu, measure, tried_on
    from fpa_verl.tasks.numbers import numbers
    from fpa_verl.tasks.task_file import Task, steps, write_task

    chosen = hardware or ("h200x2" if has_gpu() else "cpu")
    places = (RECIPES / "hardware", folder / "hardware")
    known = sorted(file.stem for place in places for file in place.glob("*.yaml"))
    if chosen not in known:
        raise ConfigError(f"--hardware {chosen}: choose from {', '.join(known)}")
    if problems.resolve() == test.resolve():
        raise ConfigError(f"--problems and --test are both {test}: what trains cannot test")
    function = given_function(reward, reward_args, threshold)
    for warning in tried_on(function, problems) if function is not None else ():
        console.print(f"warning: {warning}", highlight=False, markup=False)
    task = Task(name, problems, test, model, folder, rollouts, chosen, function)
    measured = measure(problems, test, model, rollouts)
    found = numbers(measured, chosen, response_tokens)
    write_task(task, measured, found)
    console.print(f"{task.file}: written. Read it, then type, in this order:", highlight=False, markup=False)
    for step in steps(task):
        console.print(f"\n# {step.purpose}", style="dim", highlight=False, markup=False)
        console.print(step.command, highlight=False, markup=False, soft_wrap=True)
