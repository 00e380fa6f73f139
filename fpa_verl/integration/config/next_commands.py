"""What to type after a run, with what its own command says of machine, model and task."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from fpa_verl.runs.names import BEST_MODEL

# What holds of every recipe of a task; all else belongs to the one that was typed.
OF_THE_TASK = ("hardware", "model", "task", "prompt", "rollouts", "verbose")
OF_THE_TASK_BELOW = (
    "problems.",
    "prompt.",
    "scale.max_",
    "scale.eval_samples",
    "evaluation.samples",
    "actor_rollout_ref.model.",
    "data.apply_chat_template_kwargs",
    "reward.",
    "trainer.n_gpus_per_node",
    "trainer.nnodes",
    "ray_kwargs.",
)
# hydra's options with a value, which say where a user's own files are.
WHERE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")


def next_commands(typed: str | None, run_dir: Path) -> list[str]:
    """What to type after a run that trained.

    Args:
        typed: the command that made the run; None where nobody typed one.
        run_dir: the run's.
    """
    commands = [shlex.join(["fpa-verl", "report", shown(run_dir.parent)])]
    if typed is not None and (run_dir / BEST_MODEL).is_dir():
        model, folder = shown(run_dir / BEST_MODEL), shown(run_dir.with_name(f"evaluate_{run_dir.name}"))
        commands.append(like_typed(typed, "evaluate", {"actor_rollout_ref.model.path": model, "run_dir": folder}))
    return commands


def like_typed(typed: str, recipe: str, overrides: dict[str, str]) -> str:
    """The command that was typed, for another recipe of the same task.

    Args:
        typed: `python -m verl.trainer.main recipe=NAME ...`.
        recipe: to run instead.
        overrides: key to value, beside what holds of the task.
    """
    command, words = shlex.split(typed)[:3], iter(shlex.split(typed)[3:])
    options: list[str] = []
    kept: list[str] = []
    for word in words:
        key = word.lstrip("+").partition("=")[0]
        if word.startswith("-"):
            options += [word] if "=" in word else [word, next(words)] if word in WHERE else []
        elif key == "recipe":
            kept.insert(0, f"{word.partition('=')[0]}={recipe}")
        elif key not in overrides and (key in OF_THE_TASK or key.startswith(OF_THE_TASK_BELOW)):
            kept.append(word)
    return shlex.join([*command, *options, *kept, *(f"{key}={value}" for key, value in overrides.items())])


def shown(path: Path) -> str:
    """A path as one types it here."""
    short = os.path.relpath(path)
    return str(path) if short.startswith("..") else short
