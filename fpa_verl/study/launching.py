"""Runs of a study through one of hydra's launchers: on a Slurm cluster (submitit), in a Ray cluster, in processes.

hydra is handed the runs as they are (`hydra/sweeper=fpa_verl_study`), each the overrides of its own command; where and
how they run is the launcher's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fpa_verl.commands import Command, override
from fpa_verl.files import write_json
from fpa_verl.study.jobs import Job

SWEEPER = "fpa_verl_study"
JOBS_FILE = "launched.json"


@dataclass(frozen=True)
class Launcher:
    """One of hydra's launchers.

    Attributes:
        name: as in `hydra/launcher=NAME`; its package must be installed.
        overrides: `hydra.launcher.KEY=VALUE`.
    """

    name: str
    overrides: tuple[str, ...] = ()

    def command(self, folder: Path, jobs: Sequence[Job]) -> list[str]:
        """What launches these runs and waits for them.

        Args:
            folder: the study's; the runs are written down there.
            jobs: runs that can begin now.
        """
        commands = [job.command for job in jobs if isinstance(job.command, Command)]
        write_json(folder / JOBS_FILE, [list(command.overrides) for command in commands])
        launching = (
            # hydra composes a configuration before the first of them.
            *commands[0].overrides,
            f"hydra/sweeper={SWEEPER}",
            override("hydra.sweeper.file", str(folder.absolute() / JOBS_FILE)),
            f"hydra/launcher={self.name}",
            override("hydra.sweep.dir", str(folder.absolute() / "launched")),
            *self.overrides,
        )
        return [sys.executable, *commands[0].start[1:], "--multirun", *launching]
