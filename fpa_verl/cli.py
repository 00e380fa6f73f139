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
        list[str] | None, typer.Argument(help="Run directories, folders that hold some, patterns; NAME=PATTERN.")
    ] = None,
    compare: Annotated[Compare, typer.Option(help="What to compare.")] = Compare.wallclock,
    on: Annotated[str | None, typer.Option(help="Problem set; default: the first that is not validation.")] = None,
    target: Annotated[list[float] | None, typer.Option(help="Accuracy to reach, 0 to 1; may be repeated.")] = None,
    against: Annotated[str | None, typer.Option(help="Method to measure by; default: the online one.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for page, figures, Markdown and JSON; default: RUNS/report.")
    ] = None,
) -> None:
    """Put runs side by side, from their directories (default: ./runs).

    wallclock: accuracy against cost. objectives: accuracy by recipe, settings chosen on validation problems.
    lambda: accuracy over lambda. dynamics: what training does to right and wrong trajectories.
    cost: where the device-time went.
    """
    from fpa_verl.report.comparisons import COMPARISONS, Options
    from fpa_verl.report.output import write_report
    from fpa_verl.report.provenance import command_line
    from fpa_verl.report.runs import find_runs, report_folder

    given = runs or ["runs"]
    found = find_runs(given)
    options = Options(on, target, against)
    comparison = COMPARISONS[compare.value](found, options)
    command = command_line(given, {"compare": compare.value, "on": on, "target": target, "against": against})
    write_report(comparison, out or report_folder(given, found), console, command, options)


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
    from fpa_verl.report import tables
    from fpa_verl.report.plan import Workload, as_table, assumptions, complete, measured_rates, model_rates
    from fpa_verl.report.plan import plan as make_plan
    from fpa_verl.report.runs import find_runs

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
    from rich.markup import escape
    from rich.table import Table

    from fpa_verl.integration.doctor import examine

    marks = {"fine": "[green]✓[/green]", "doubtful": "[yellow]![/yellow]", "broken": "[red]✗[/red]"}
    table = Table(show_header=False, box=None)
    broken = False
    with console.status("looking"):
        for finding in examine(overrides or [], with_ray=ray):
            table.add_row(marks[finding.state], finding.subject, escape(finding.detail))
            broken |= finding.state == "broken"
    console.print(table)
    if broken:
        raise typer.Exit(1)


@data_app.command("problems")
def data_problems(
    source: Annotated[
        str,
        typer.Argument(help="A benchmark's name; or JSON Lines (.gz too) with problem, answer and, if present, id."),
    ],
    out: Annotated[Path, typer.Option(help="The parquet file to write.")],
    suffix: Annotated[
        str | None, typer.Option(help="Text after each problem; default: the paper's instruction.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Take only so many.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Hub id or folder that holds a copy of the benchmark's data set.")
    ] = None,
) -> None:
    """Turn a benchmark or JSON Lines into a problem file in verl's schema."""
    from fpa_verl.evaluation.problem_sets import read_problem_set
    from fpa_verl.rollouts.problems import BOXED_INSTRUCTION, write_problems

    found = read_problem_set(source, BOXED_INSTRUCTION if suffix is None else suffix, dataset)
    problems = found.problems[:limit]
    write_problems(out, problems, split="train")
    console.print(f"{out}: {len(problems):,} problems", highlight=False)
    for note in found.notes():
        console.print(f"  {note}", highlight=False, markup=False)


@data_app.command("contamination")
def data_contamination(
    training: Annotated[str, typer.Argument(help="Training problems: a file, or a benchmark's name.")],
    evaluation: Annotated[list[str], typer.Argument(help="Evaluation problems, likewise; one or more.")],
    near: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, help="Share of common runs of five words from which a problem counts as near."),
    ] = 0.5,
    suffix: Annotated[
        str | None, typer.Option(help="Text after each problem of parquet files; default: the paper's instruction.")
    ] = None,
) -> None:
    """Find evaluation problems that occur, or nearly occur, among the training problems.

    Exit status 1 if there are any.
    """
    from fpa_verl.evaluation.contamination import ProblemIndex
    from fpa_verl.evaluation.problem_sets import read_problem_set
    from fpa_verl.report.tables import Table, for_terminal
    from fpa_verl.rollouts.problems import BOXED_INSTRUCTION

    suffix = BOXED_INSTRUCTION if suffix is None else suffix
    known = ProblemIndex(read_problem_set(training, suffix).texts())
    summary = []
    for source in evaluation:
        texts = read_problem_set(source, suffix).texts()
        matches = known.matches(texts, near)
        same = sum(match.same for match in matches)
        summary.append([Path(source).name, f"{len(texts):,}", f"{same:,}", f"{len(matches) - same:,}"])
        if matches:
            rows = [[m.evaluation_id, m.training_id, "same" if m.same else f"{m.similarity:.2f}"] for m in matches]
            console.print(for_terminal(Table(source, ["evaluation", "training", "text"], rows)))
    caption = f"Problems found among the {len(known.ids):,} of {Path(training).name}"
    console.print(for_terminal(Table(caption, ["set", "problems", "same", "near"], summary)))
    if any(row[2:] != ["0", "0"] for row in summary):
        raise typer.Exit(1)


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
    from fpa_verl.rollouts import RolloutDataset

    dataset = RolloutDataset(folder)
    dataset.verify()
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
