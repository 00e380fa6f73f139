"""What to type after a run, with what its own command says of machine, model and task."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from fpa_verl.commands import Command, override_list
from fpa_verl.integration.config.typed_command import command_for, typed_command
from fpa_verl.runs.names import BEST_MODEL
from fpa_verl.runs.snapshots import not_evaluated


def next_commands(run_dir: Path, *, was_evaluated: bool = True) -> list[str]:
    """What to type after a run that trained: nothing of a recipe's where nobody typed a command.

    Args:
        run_dir: the run's.
        was_evaluated: whether there is something to report.
    """
    commands = [shlex.join(["fpa-verl", "report", shown(run_dir.parent)])] if was_evaluated else []
    if typed_command() is not None and not_evaluated(run_dir):
        values = {"run_dir": shown(run_dir.with_name("evaluate_snapshots"))}
        evaluating = Command.read(command_for("evaluate_snapshots", values))
        commands.insert(0, str(evaluating.adding([override_list("evaluation.runs", [shown(run_dir)])])))
    if typed_command() is not None and (run_dir / BEST_MODEL).is_dir():
        model, folder = shown(run_dir / BEST_MODEL), shown(run_dir.with_name(f"evaluate_{run_dir.name}"))
        commands.append(command_for("evaluate", {"actor_rollout_ref.model.path": model, "run_dir": folder}))
    return commands


def shown(path: Path) -> str:
    """A path as one types it here."""
    short = os.path.relpath(path)
    return str(path) if short.startswith("..") else short
