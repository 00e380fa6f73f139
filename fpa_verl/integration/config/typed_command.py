"""The command as it was typed, and when: handed on to the process that trains, on whichever machine that is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil

from fpa_verl.commands import Command

# Environment variables of the run's processes.
STARTED_AT = "FPA_VERL_STARTED_AT"
COMMAND = "FPA_VERL_COMMAND"


def variables(command: Command, started_at: float) -> dict[str, str]:
    """What the processes of a run must have in their environment."""
    return {COMMAND: str(command), STARTED_AT: str(started_at)}


def command_started_at() -> float:
    """Unix time of the command; of this process where the launcher's environment does not reach it."""
    return float(os.environ.get(STARTED_AT, psutil.Process().create_time()))


def typed_command() -> str | None:
    """What was typed, for those who want the run again; None where nobody typed a command."""
    return os.environ.get(COMMAND)


def command_for(recipe: str, values: Mapping[str, str] | None = None, *, caches: bool = False) -> str:
    """What to type for another recipe beside the run; the short form where nobody typed a command.

    Args:
        recipe: its name.
        values: of keys that it is to have.
        caches: it makes, or reads, the reference cache of the run.
    """
    text = typed_command()
    return str((Command.read(text) if text else Command()).for_recipe(recipe, values, caches=caches))


@contextmanager
def as_if_typed(command: Command) -> Iterator[None]:
    """Have hints in the block speak of a command that nobody typed yet."""
    before = os.environ.get(COMMAND)
    os.environ[COMMAND] = str(command)
    try:
        yield
    finally:
        del os.environ[COMMAND]
        if before is not None:
            os.environ[COMMAND] = before
