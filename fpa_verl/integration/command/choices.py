"""What a command chooses of the groups of recipes: whether there is such a file, before hydra looks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fpa_verl.commands import PLAIN, Command, key_of
from fpa_verl.errors import ConfigError
from fpa_verl.paths import RECIPES

GROUPS = ("recipe", "hardware", "model", "task", "prompt")


def require_choices(command: Command) -> None:
    """Refuse a folder or a file that is not there.

    Where the command gives hydra other places to look, that is left to hydra.

    Raises:
        ConfigError: which one, and what there is.
    """
    own = list(_values(command, "--config-dir", "-cd"))
    for folder in own:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder}: no such folder; give the one that holds your own recipes")
    elsewhere = any(key_of(word) == "hydra.searchpath" for word in command.overrides)
    if elsewhere or any(_values(command, "--config-path", "-cp")):
        return
    for word in command.overrides:
        group, names = key_of(word), word.partition("=")[2]
        for name in names.split(",") if names and group in GROUPS and "@" not in word else []:
            _require(group, name.strip(), [RECIPES, *own])


def _values(command: Command, *flags: str) -> Iterator[Path]:
    """Of an option, typed `--config-dir FOLDER` or `--config-dir=FOLDER`."""
    for place, word in enumerate(command.flags):
        name, is_joined, value = word.partition("=")
        if name in flags:
            yield Path(value if is_joined else command.flags[place + 1]).expanduser()


def _require(group: str, name: str, folders: list[Path]) -> None:
    plain = name.removesuffix(".yaml")
    if not PLAIN.fullmatch(name) or name == "null" or any((one / group / f"{plain}.yaml").is_file() for one in folders):
        return
    known = sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})
    message = f"{group}={name}: choose from {', '.join(known)}"
    if folders == [RECIPES]:
        message += f"; for one of your own add --config-dir FOLDER, which holds {group}/{name}.yaml"
    raise ConfigError(message)
