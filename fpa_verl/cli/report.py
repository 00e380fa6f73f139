"""`fpa-verl report`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fpa_verl.cli.console import console
from fpa_verl.cli.power import report_power
from fpa_verl.errors import ConfigError


class Compare(str, Enum):
    """What `fpa-verl report` can put side by side."""

    wallclock = "wallclock"
    paired = "paired"
    objectives = "objectives"
    lambdas = "lambda"
    dynamics = "dynamics"
    figures = "figures"
    paper = "paper"
    cost = "cost"
    decoding = "decoding"
    claims = "claims"


# Beside which comparisons an option says nothing.
IDLE_BESIDE = {
    "on": {Compare.paper},
    "target": {Compare.paper, Compare.decoding},
    "against": {Compare.paper, Compare.decoding},
    "margin": set(Compare) - {Compare.paper, Compare.claims},
}


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
    margin: Annotated[
        float | None,
        typer.Option(help="Difference in accuracy that is of no account; default: of paper 0.02, of claims 0.01."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="On which the runs of verl's logs ran that do not say so: 'NVIDIA H200'.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for page, figures, Markdown and JSON; default: RUNS/report.")
    ] = None,
) -> None:
    """Put runs side by side, from their directories (default: ./runs).

    wallclock: accuracy against cost. paired: differences between methods, problem by problem. objectives: accuracy by
    recipe, settings chosen on validation problems. lambda: accuracy over lambda. dynamics: what training does to right
    and wrong trajectories. cost: where the device-time went. figures: the paper's Figures 1 to 6 and 8, of these runs.
    decoding: evaluations that sampled and such that searched, at equal numbers of generated tokens.
    paper: beside the published Tables 1, 2, 5, 6 and Figure 6.
    claims: which statements of the paper the runs bear out.

    With --power, as `fpa-verl power`: RUNS are a pilot, two runs or one; none: the paper's benchmarks.
    """
    from fpa_verl.report.provenance import command_line

    if power is not None:
        _refuse_beside("--power", compare=compare, target=target, against=against, margin=margin, device=device)
        given = runs or []
        report_power(power, given, on, out, command_line(given, {"power": power, "on": on}))
        return
    compare = compare or Compare.wallclock
    name = compare.value
    asked = {"on": on, "target": target, "against": against, "margin": margin}
    idle = {option: value for option, value in asked.items() if compare in IDLE_BESIDE[option]}
    _refuse_beside(f"--compare {name}", **idle)
    from fpa_verl.report.comparisons import COMPARISONS, Options
    from fpa_verl.report.output import report_folder, write_report
    from fpa_verl.runs.find import find_runs

    given = runs or ["runs"]
    found = find_runs(given, device, with_evaluations=compare in (Compare.paper, Compare.decoding))
    options = Options(on, target, against, margin)
    comparison = COMPARISONS[name](found, options)
    command = command_line(given, {"compare": name, **asked, "device": device})
    write_report(comparison, out or report_folder(given, found), console, command, options)


def _refuse_beside(what: str, **options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"--{name} says nothing beside {what}: leave one of the two out")
