"""The command `fpa-verl`: a file here for each of its commands. Training is `python -m verl.trainer.main recipe=NAME`.

Commands import what they need when they run: the help of one must not wait for the packages of another.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import fpa_verl
from fpa_verl.cli.console import console
from fpa_verl.cli.data import data_app
from fpa_verl.cli.demo import demo
from fpa_verl.cli.doctor import doctor
from fpa_verl.cli.plan import plan
from fpa_verl.cli.power import power
from fpa_verl.cli.report import report
from fpa_verl.cli.study import study
from fpa_verl.cli.task import task_app
from fpa_verl.cli.watch import watch
from fpa_verl.errors import FpaError
from fpa_verl.install import missing

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="FPA-weighted offline RL and GRPO in verl, compared."
)
for command in (report, study, watch, plan, power, demo, doctor):
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(task_app, name="task")


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


def main() -> None:
    """Console entry point: a user's error is one line and exit status 1."""
    try:
        app()
    except FpaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (said := missing(error)) is None:
            raise
        print(f"error: {said}", file=sys.stderr)
        sys.exit(1)
