"""`fpa-verl`: report, data and demo. Training itself is `python -m verl.trainer.main recipe=NAME`."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import fpa_verl
from fpa_verl.cli.data import data_app
from fpa_verl.errors import ConfigError, DatasetError, FpaError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="FPA-weighted offline RL and GRPO in verl, compared."
)
app.add_typer(data_app, name="data")
console = Console()


class Compare(str, Enum):
    """What `fpa-verl report` can put side by side."""

    wallclock = "wallclock"
    objectives = "objectives"
    lambdas = "lambda"
    dynamics = "dynamics"
    cost = "cost"


def _version(wanted: bool) -> None:
    if wanted:
        console.print(fpa_verl.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Run directories, folders that hold some, patterns; logs of verl; NAME=PATTERN."),
    ] = None,
    compare: Annotated[Compare | None, typer.Option(help="What to compare; default: wallclock.")] = None,
    power: Annotated[
        float | None,
        typer.Option(help="Difference in accuracy to see, as 0.02: problems and samples that it takes; no comparison."),
    ] = None,
    on: Annotated[str | None, typer.Option(help="Problem set; default: the first that is not validation.")] = None,
    target: Annotated[list[float] | None, typer.Option(help="Accuracy to reach, 0 to 1; may be repeated.")] = None,
    against: Annotated[str | None, typer.Option(help="Method to measure by; default: the online one.")] = None,
    device: Annotated[
        str | None, typer.Option(help="On which the runs of verl's logs ran that do not say so: 'NVIDIA H200'.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for page, figures, Markdown and JSON; default: RUNS/report.")
    ] = None,
) -> None:
    """Put runs side by side, from their directories (default: ./runs).

    wallclock: accuracy against cost. objectives: accuracy by recipe, settings chosen on validation problems.
    lambda: accuracy over lambda. dynamics: what training does to right and wrong trajectories.
    cost: where the device-time went.

    With --power, RUNS are a pilot: two runs or one, trained or of recipe=evaluate; none: the paper's benchmarks.
    """
    if power is not None:
        _refuse_beside_power(compare=compare, target=target, against=against, device=device)
        _report_power(power, runs or [], on, out)
        return
    from fpa_verl.report.comparisons import COMPARISONS, Options
    from fpa_verl.report.output import report_folder, write_report
    from fpa_verl.report.provenance import command_line
    from fpa_verl.runs.find import find_runs

    given = runs or ["runs"]
    found = find_runs(given, device)
    options = Options(on, target, against)
    name = (compare or Compare.wallclock).value
    comparison = COMPARISONS[name](found, options)
    typed = {"compare": name, "on": on, "target": target, "against": against, "device": device}
    command = command_line(given, typed)
    write_report(comparison, out or report_folder(given, found), console, command, options)


def _report_power(difference: float, given: list[str], on: str | None, out: Path | None) -> None:
    from fpa_verl.report.output import report_folder, write_tables
    from fpa_verl.report.provenance import command_line
    from fpa_verl.runs.find import find_runs
    from fpa_verl.study.power import required

    found = find_runs(given, with_evaluations=True)
    if given and not found:
        raise DatasetError(f"no run in {', '.join(given)}: name runs that were evaluated, or none for assumptions")
    comparison = required(difference, found, on)
    folder = out or report_folder(given, found)
    write_tables(comparison, folder, console, command_line(given, {"power": difference, "on": on}))
    console.print(f"Markdown and JSON: {folder}/{comparison.name}.*", highlight=False, markup=False)


def _refuse_beside_power(**options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"--{name} says nothing beside --power: leave one of the two out")


@app.command()
def watch(
    runs: Annotated[list[str] | None, typer.Argument(help="Run directories, folders that hold some, patterns.")] = None,
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 5.0,
) -> None:
    """See how far runs are, their cost and accuracy so far, until they are finished (default: ./runs)."""
    from fpa_verl.report.watch import watch as watch_runs

    try:
        watch_runs(runs or ["runs"], console, every)
    except KeyboardInterrupt:
        console.print("The runs go on.")


@app.command()
def plan(
    response_tokens: Annotated[float, typer.Option(help="Mean length of a response.")],
    prompt_tokens: Annotated[float, typer.Option(help="Mean length of a prompt.")] = 150.0,
    problems: Annotated[int, typer.Option(help="Training problems.")] = 12_000,
    rollouts: Annotated[int, typer.Option(help="Rollouts a problem.")] = 8,
    trained_share: Annotated[
        float, typer.Option(help="Share of trajectories in groups with right and wrong ones.")
    ] = 1.0,
    epochs: Annotated[float, typer.Option(help="Times that the offline run goes through them.")] = 3.0,
    online_steps: Annotated[int, typer.Option(help="Steps of GRPO.")] = 1_500,
    online_prompts: Annotated[int, typer.Option(help="Prompts a step of GRPO.")] = 128,
    devices: Annotated[int, typer.Option(help="Devices held.")] = 2,
    cached: Annotated[bool, typer.Option(help="The reference is computed once (recipe=cache_reference).")] = False,
    like: Annotated[list[str] | None, typer.Option(help="Runs whose measured rates to take; may be repeated.")] = None,
    generation_rate: Annotated[float | None, typer.Option(help="Tokens a device-second.")] = None,
    training_rate: Annotated[float | None, typer.Option(help="Tokens a device-second, forward and backward.")] = None,
    forward_rate: Annotated[float | None, typer.Option(help="Tokens a device-second; default: 3 x training.")] = None,
    parameters: Annotated[float | None, typer.Option(help="Of the model, for rates from FLOP: 4e9.")] = None,
    flops: Annotated[
        float, typer.Option(help="Peak of a device in FLOP/s; default: H200, BF16, dense, as its data sheet says.")
    ] = 989e12,
    utilisation: Annotated[float, typer.Option(help="Share of the peak that training reaches.")] = 0.4,
) -> None:
    """What collecting, offline and online training would cost, from rates given or measured. Workload: the paper's."""
    from fpa_verl import tables
    from fpa_verl.runs.find import find_runs
    from fpa_verl.study.cost_ahead import Workload, as_table, assumptions, complete, measured_rates, model_rates
    from fpa_verl.study.cost_ahead import plan as make_plan

    work = Workload(
        response_tokens, prompt_tokens, problems, rollouts, trained_share, epochs, online_steps, online_prompts
    )
    given = {"generation": generation_rate, "training": training_rate, "forward": forward_rate}
    rates = complete(
        {
            **(model_rates(parameters, flops, utilisation) if parameters else {}),
            **(measured_rates(find_runs(like)) if like else {}),
            **{name: rate for name, rate in given.items() if rate is not None},
        }
    )
    console.print(tables.for_terminal(as_table(make_plan(work, rates, cached=cached), devices)))
    for line in assumptions():
        console.print(line, highlight=False)


@app.command()
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


@app.command()
def doctor(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="A recipe to check as well: recipe=NAME and what else its command has.")
    ] = None,
    ray: Annotated[bool, typer.Option(help="Start Ray, or join RAY_ADDRESS, and look into a worker.")] = True,
) -> None:
    """Check this machine, and a recipe if one is given; exit status 1 where a run could not start."""
    from fpa_verl.findings import print_findings
    from fpa_verl.integration.command.doctor import examine

    with console.status("looking"):
        found = list(examine(overrides or [], with_ray=ray))
    print_findings(console, found)
    if any(finding.state == "wrong" for finding in found):
        raise typer.Exit(1)


def main() -> None:
    """Console entry point: a user's error is one line and exit status 1."""
    try:
        app()
    except FpaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
