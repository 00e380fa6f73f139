"""`fpa-verl study`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from fpa_verl.cli.console import console


def study(
    name: Annotated[str, typer.Argument(help="A study of recipes/study/, or a file of your own, NAME.yaml.")],
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what is left to do and how long it takes; run nothing.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show how far it is, for as long as it runs in another terminal.")
    ] = False,
    commands: Annotated[
        bool, typer.Option("--commands", help="Print the commands that are left; run nothing.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help="Arm; may be repeated. Default: all.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; may be repeated. Default: all.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Everything it makes; default: as its file says.")] = None,
    launcher: Annotated[
        str | None,
        typer.Option(help="hydra's launcher for the runs that train, as submitit_slurm; default: one by one."),
    ] = None,
    launcher_override: Annotated[
        list[str] | None, typer.Option(help="hydra.launcher.KEY=VALUE; may be repeated.")
    ] = None,
) -> None:
    """Run a whole comparison: what is missing of it, and then the report. Repeated, it goes on."""
    from fpa_verl.errors import ConfigError
    from fpa_verl.integration.forkserver.kept import kept_servers, words_of
    from fpa_verl.study.ahead import plan_notes, plan_table
    from fpa_verl.study.definition import read_study
    from fpa_verl.study.ending import require_reports, write_choices, write_reports
    from fpa_verl.study.launching import Launcher
    from fpa_verl.study.running import INTERRUPTED, Runner, wanted_jobs, wanted_of
    from fpa_verl.study.state import Diary
    from fpa_verl.study.status import show_status
    from fpa_verl.tables import for_terminal

    found = read_study(name, folder)
    require_reports(found)
    wanted = wanted_of(found, only or [], seed or [])
    jobs = wanted_jobs(found, wanted)
    if status:
        show_status(found, console)
        return
    if plan:
        console.print(for_terminal(plan_table(found, jobs, Diary.read(Path(found.folder)))))
        for number, note in enumerate(plan_notes(found, jobs), start=1):
            console.print(f"{number}. {note}", highlight=False, markup=False)
        return
    if commands:
        for job in jobs:
            if not job.is_done:
                waits = f"# {job.name}: its settings are still to be chosen, or its runs to be made"
                console.print(job.words if job.command else waits, markup=False, highlight=False, soft_wrap=True)
        return
    if launcher_override and not launcher:
        raise ConfigError("--launcher-override says nothing without --launcher")
    through = Launcher(launcher, tuple(launcher_override or ())) if launcher else None
    runner = Runner(found, console, wanted, through, words_of)
    try:
        # What a launcher starts may be on another machine.
        with nullcontext() if through else kept_servers():
            complete = runner.run()
    except KeyboardInterrupt:
        runner.conclude()
        raise typer.Exit(INTERRUPTED) from None
    write_choices(found, console)
    left_out = write_reports(found, console)
    for reason in left_out:
        console.print(reason, markup=False, highlight=False, soft_wrap=True)
    runner.conclude()
    if not complete:
        raise typer.Exit(1)
