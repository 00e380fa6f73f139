"""`fpa-verl`: report, data and demo. Training itself is `python -m verl.trainer.main recipe=NAME`."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import fpa_verl
from fpa_verl.errors import FpaError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="FPA-weighted offline RL and GRPO in verl, compared."
)
data_app = typer.Typer(no_args_is_help=True, help="Make, import and look at problem files and rollout datasets.")
app.add_typer(data_app, name="data")
console = Console()


class Compare(str, Enum):
    """What `fpa-verl report` can put side by side."""

    wallclock = "wallclock"
    objectives = "objectives"
    lambdas = "lambda"
    dynamics = "dynamics"


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
    runs: Annotated[list[Path] | None, typer.Argument(help="Run directories, or folders that hold some.")] = None,
    compare: Annotated[Compare, typer.Option(help="What to compare.")] = Compare.wallclock,
    on: Annotated[str | None, typer.Option(help="Problem set; default: the first that is not validation.")] = None,
    target: Annotated[list[float] | None, typer.Option(help="Accuracy to reach, 0 to 1; may be repeated.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for figure, Markdown and JSON; default: RUNS/report.")
    ] = None,
) -> None:
    """Put runs side by side, from their directories (default: ./runs).

    wallclock: accuracy against device-hours. objectives: accuracy by recipe, settings chosen on validation problems.
    lambda: accuracy over lambda. dynamics: what training does to right and wrong trajectories.
    """
    from fpa_verl.report import dynamics, lambdas, objectives, wallclock
    from fpa_verl.report.comparison import Comparison
    from fpa_verl.report.output import write_report
    from fpa_verl.report.runs import find_runs

    folders = runs or [Path("runs")]
    found = find_runs(folders)
    comparison: Comparison
    match compare:
        case Compare.wallclock:
            comparison = wallclock.compare(found, on, target)
        case Compare.objectives:
            comparison = objectives.compare(found, on)
        case Compare.lambdas:
            comparison = lambdas.compare(found, on)
        case Compare.dynamics:
            comparison = dynamics.compare(found)
    write_report(comparison, out or folders[0] / "report", console)


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


@data_app.command("problems")
def data_problems(
    source: Annotated[
        Path, typer.Argument(help="JSON Lines (.gz too) with problem, answer and, if present, id, source.")
    ],
    out: Annotated[Path, typer.Option(help="The parquet file to write.")],
    suffix: Annotated[
        str | None, typer.Option(help="Text after each problem; default: the paper's instruction.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Take only so many.")] = None,
) -> None:
    """Turn JSON Lines into a problem file in verl's schema."""
    from fpa_verl.rollouts.problems import BOXED_INSTRUCTION, problems_from_json_lines, write_problems

    problems = problems_from_json_lines(source, BOXED_INSTRUCTION if suffix is None else suffix)[:limit]
    write_problems(out, problems, split="train")
    console.print(f"{out}: {len(problems):,} problems", highlight=False)


@data_app.command("import")
def data_import(
    source: Annotated[
        Path, typer.Argument(help="JSON Lines: problem, response, ground_truth; or verl's rollout dumps.")
    ],
    model: Annotated[str, typer.Option(help="The model that will train on them: folder or Hugging Face name.")],
    out: Annotated[Path, typer.Option(help="The dataset folder to write.")],
    suffix: Annotated[
        str | None, typer.Option(help="Text after each problem; default: the paper's instruction.")
    ] = None,
    validation_fraction: Annotated[float, typer.Option(help="Share of problems held out.")] = 0.05,
    max_response_tokens: Annotated[
        int, typer.Option(help="Longer responses are cut off and count as truncated.")
    ] = 2048,
) -> None:
    """Build a rollout dataset from text rollouts at hand; every response is scored anew."""
    from fpa_verl.rollouts.importing import import_rollouts
    from fpa_verl.rollouts.problems import BOXED_INSTRUCTION

    manifest = import_rollouts(
        source,
        model,
        out,
        suffix=BOXED_INSTRUCTION if suffix is None else suffix,
        validation_fraction=validation_fraction,
        max_response_tokens=max_response_tokens,
    )
    _print_counts(out, manifest.counts)


@data_app.command("check")
def data_check(
    files: Annotated[list[Path], typer.Argument(help="Problem files: verl's parquet, or JSON Lines (.gz too).")],
) -> None:
    """Say which ground truths the scorer cannot use; exit status 1 if there are any."""
    from fpa_verl.reward.ground_truths import unusable

    found_any = False
    for path in files:
        found, total = unusable(path)
        found_any = found_any or bool(found)
        console.print(
            f"{path}: {len(found):,} of {total:,} ground truths do not grade themselves right", highlight=False
        )
        for entry in found:
            line = f"  {entry.problem_id}: {entry.ground_truth!r} ({entry.status})"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if found_any:
        raise typer.Exit(1)


@data_app.command("show")
def data_show(folder: Annotated[Path, typer.Argument(help="A rollout dataset.")]) -> None:
    """Verify a rollout dataset and print what is in it."""
    from fpa_verl.rollouts.dataset import RolloutDataset

    dataset = RolloutDataset(folder)
    _print_counts(folder, dataset.manifest.counts)
    for name, value in dataset.manifest.fingerprints.items():
        console.print(f"  {name}: {value}", highlight=False)
    console.print(f"  cost: {dataset.manifest.device_seconds:,.0f} device-seconds", highlight=False)


def _print_counts(folder: Path, counts: dict[str, int]) -> None:
    from rich.table import Table

    table = Table(title=str(folder), title_justify="left", show_header=False)
    for name, value in counts.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    console.print(table)


def main() -> None:
    """Console entry point: a user's error is one line and exit status 1."""
    try:
        app()
    except FpaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
