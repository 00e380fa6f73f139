"""The command as it was typed, and when: handed on to the process that trains, on whichever machine that is."""

from __future__ import annotations

import os

import psutil

# Environment variables of the run's processes.
STARTED_AT = "FPA_VERL_STARTED_AT"
COMMAND = "FPA_VERL_COMMAND"


def variables(command: str, started_at: float) -> dict[str, str]:
    """What the processes of a run must have in their environment."""
    return {COMMAND: command, STARTED_AT: str(started_at)}


def command_started_at() -> float:
    """Unix time of the command; of this process where the launcher's environment does not reach it."""
    return float(os.environ.get(STARTED_AT, psutil.Process().create_time()))


def typed_command() -> str | None:
    """What was typed, for those who want the run again; None where nobody typed a command."""
    return os.environ.get(COMMAND)
