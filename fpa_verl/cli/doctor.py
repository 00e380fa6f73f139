"""`fpa-verl doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from fpa_verl.cli.console import console, quiet


def doctor(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="A recipe to check as well: recipe=NAME and what else its command has.")
    ] = None,
    config_dir: Annotated[
        str | None, typer.Option("--config-dir", "-cd", help="Recipes and tasks of your own, as for the run.")
    ] = None,
    config_name: Annotated[
        str | None, typer.Option("--config-name", "-cn", help="A configuration file of your own, as for the run.")
    ] = None,
    config_path: Annotated[
        str | None, typer.Option("--config-path", "-cp", help="Where that file is, as for the run.")
    ] = None,
    ray: Annotated[bool, typer.Option(help="Start Ray, or join RAY_ADDRESS, and look into a worker.")] = True,
) -> None:
    """Check this machine, and a recipe if one is given; exit status 1 where a run could not start."""
    from fpa_verl.findings import print_findings
    from fpa_verl.integration.command.doctor import examine

    # hydra's own options, which a run takes as well.
    options = {"--config-dir": config_dir, "--config-name": config_name, "--config-path": config_path}
    flags = [word for name, value in options.items() if value is not None for word in (name, value)]
    with console.status("looking"), quiet():
        found = list(examine([*flags, *(overrides or [])], with_ray=ray))
    print_findings(console, found)
    if any(finding.state == "wrong" for finding in found):
        raise typer.Exit(1)
