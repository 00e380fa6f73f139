"""What a report was made of: the command, the versions and the fingerprint of every file that went in."""

from __future__ import annotations

import os
import platform
import shlex
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fpa_verl
from fpa_verl.files import sha256_of
from fpa_verl.rollouts.manifest import MANIFEST_FILE
from fpa_verl.runs.run import Run

PACKAGES = ("numpy", "matplotlib", "jinja2")


@dataclass(frozen=True)
class Input:
    """A file that a report was made of."""

    folder: Path
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """Enough to make the report again, and to tell whether its inputs are still the same."""

    command: str
    versions: dict[str, str]
    inputs: list[Input]

    def as_json(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "versions": self.versions,
            "inputs": [{**vars(one), "folder": str(one.folder)} for one in self.inputs],
        }


def provenance(runs: list[Run], command: str) -> Provenance:
    """Fingerprint every file of `runs` that reports read, and the manifests of their datasets."""
    versions = {"fpa-verl": fpa_verl.__version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    files = [file for run in runs for file in run.files]
    manifests = dict.fromkeys(Path(run.dataset.folder) for run in runs if run.dataset)
    files += [folder / MANIFEST_FILE for folder in manifests if (folder / MANIFEST_FILE).is_file()]
    inputs = [Input(file.parent, file.name, file.stat().st_size, sha256_of(file)) for file in files]
    return Provenance(command, versions, inputs)


def command_line(given: list[str], options: dict[str, Any], command: str = "report") -> str:
    """A command of `fpa-verl` as it would have to be typed; options that are None are left out, lists repeated."""
    words = ["fpa-verl", command, *given]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                words += [f"--{name}", str(one)]
    return shlex.join(words)


def default_command(runs: list[Run], name: str) -> str:
    """The command for a report that no command asked for."""
    folder = os.path.commonpath([run.folder.absolute() for run in runs])
    return command_line([folder], {"compare": name})
