"""The configuration that a typed command has, without running it."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr
from dataclasses import dataclass
from unittest import mock

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from fpa_verl.commands import VERLS_MAIN, Command
from fpa_verl.errors import ConfigError
from fpa_verl.integration.command.added_keys import likely_slips
from fpa_verl.integration.command.choices import VERLS_CONFIG, require_choices
from fpa_verl.integration.command.launch import sees_to_itself
from fpa_verl.integration.command.own_file import Overridden, overridden

# hydra is to leave no folder behind, and the logging of this process as it is.
NOTHING_WRITTEN = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none")

# What hydra adds to an error of any kind.
HYDRAS_ADVICE = "HYDRA_FULL_ERROR"


@dataclass(frozen=True)
class Composed:
    """What hydra makes of a command.

    Attributes:
        overridden: what of the user's own file did not come to pass.
        slips: what to say of keys that are added, where others may have been meant.
    """

    config: DictConfig
    overridden: list[Overridden]
    slips: list[str]


def composed(command: Command) -> Composed:
    """What hydra composes of a command, read as hydra reads it.

    Raises:
        ConfigError: hydra refuses it; its own words, but for what is looked at before (`choices.py`).
    """
    require_choices(command)
    found: list[Composed] = []
    refused: list[ConfigError] = []
    primary = "ppo_trainer" if command.start == VERLS_MAIN else "main"

    @hydra.main(config_path=VERLS_CONFIG, config_name=primary, version_base="1.3")
    def look(config: DictConfig) -> None:
        try:
            found.append(Composed(config, overridden(config), likely_slips(config)))
        except ConfigError as error:
            refused.append(error)

    said = io.StringIO()
    with mock.patch.object(sys, "argv", [command.start[-1], *command.arguments, *NOTHING_WRITTEN]):
        GlobalHydra.instance().clear()
        try:
            with sees_to_itself(), redirect_stderr(said):
                look()
        except SystemExit:
            raise ConfigError(_in_one_line(said.getvalue())) from None
    if refused:
        raise refused[0]
    return found[0]


def _in_one_line(said: str) -> str:
    """What hydra said: all of it, or of a trace the error that it ends with."""
    lines = [line for line in said.splitlines() if line.strip() and HYDRAS_ADVICE not in line]
    if any(line.startswith("Traceback") for line in lines):
        lines = lines[-1:]
    return " ".join(" ".join(lines).split()) or "hydra refuses the command"
