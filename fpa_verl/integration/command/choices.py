"""What a command and a file of the user's own choose of the recipes' groups, looked at before hydra does.

What hydra would say of it is either many lines or a remedy that no command line takes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import OmegaConf

from fpa_verl.commands import PLAIN, VERLS_MAIN, Command, key_of
from fpa_verl.errors import ConfigError
from fpa_verl.integration.command.files_named import (
    CONFIG_NAME,
    Entry,
    entries,
    find,
    own_file,
    own_folders,
    read,
    values,
)
from fpa_verl.integration.command.own_file import PAGE, VERLS_FILE
from fpa_verl.paths import RECIPES

GROUPS = ("recipe", "hardware", "model", "task", "prompt")
SEARCHPATH = "hydra.searchpath"
# verl's own configuration; hydra finds the recipes behind it.
VERLS_CONFIG = "pkg://verl.trainer.config"
# What an entry composes where no file is named, and whether that has a place for a recipe.
OURS = "main"


def require_choices(command: Command) -> None:
    """Refuse a folder or a file that is not there or cannot be read, and a recipe that is named twice or in vain.

    Where the command gives hydra other places to look, that is left to hydra.

    Raises:
        ConfigError: which one, and what there is.
    """
    folders = own_folders(command)
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder}: no such folder; give the one that holds your own recipes")
    elsewhere = any(key_of(word) == SEARCHPATH for word in command.overrides)
    if elsewhere or values(command, "--config-path", "-cp"):
        return
    file = own_file(command)
    named = list(entries(file, folders)) if file else []
    _require_a_place(command, file, named)
    if file and set(OmegaConf.select(read(file), SEARCHPATH) or []) - {VERLS_CONFIG}:
        return
    typed = {key_of(word) for word in command.overrides}
    for word in command.overrides:
        group, names = key_of(word), word.partition("=")[2]
        for name in names.split(",") if names and group in GROUPS and "@" not in word else []:
            _require(group, name.strip(), folders, f"{group}={name.strip()}")
    for entry in named:
        if entry.group in GROUPS and entry.group not in typed:
            _require(entry.group, entry.name, folders, str(entry))


def end_where_refused(command: Command) -> None:
    """End verl's own main in one line, where it is given a recipe; without one it is nothing of ours."""
    try:
        if _names_recipe(command):
            require_choices(command)
    except ConfigError as error:
        sys.exit(f"error: {error}")


def _names_recipe(command: Command) -> bool:
    """Whether the command, or a file of the user's own that it names, asks for a recipe."""
    if any(key_of(word) == "recipe" for word in command.overrides):
        return True
    folders = own_folders(command)
    found = [find(name, folders) for name in values(command, *CONFIG_NAME)]
    return any(entry.group == "recipe" for file in found if file for entry in entries(file, folders))


def _require_a_place(command: Command, file: Path | None, named: list[Entry]) -> None:
    """`recipe=` takes the place of a recipe that is named; `+recipe=` names one where there is none."""
    primary = (values(command, *CONFIG_NAME) or [VERLS_FILE if command.start == VERLS_MAIN else OURS])[-1]
    is_named = any(entry.group == "recipe" for entry in named) if file else primary == OURS
    for word in command.overrides:
        sign, _, name = word.partition("recipe=")
        if key_of(word) != "recipe" or sign not in ("", "+") or bool(sign) != is_named:
            continue
        if is_named:
            where = f"{file} names a recipe in its defaults" if file else "this command has a place for one"
            raise ConfigError(f"{word}: {where}; type recipe={name}, without the +")
        if file:
            raise ConfigError(
                f"{word}: {file} names no recipe, whose place it could take; add the line `- recipe: {name}` to its "
                f"defaults, before _self_, or type +recipe={name}, which has the last word on what both set ({PAGE})"
            )
        raise ConfigError(f"{word}: verl's own main has no recipe, whose place it could take; type +recipe={name}")


def _require(group: str, name: str, own: list[Path], said: str) -> None:
    if not PLAIN.fullmatch(name) or name == "null":
        return
    found = find(name, [folder / group for folder in (RECIPES, *own)])
    if found is None:
        known = sorted({file.stem for folder in (RECIPES, *own) for file in (folder / group).glob("*.yaml")})
        message = f"{said}: choose from {', '.join(known)}"
        if not own:
            message += f"; for one of your own add --config-dir FOLDER, which holds {group}/{name}.yaml"
        raise ConfigError(message)
    if not found.is_relative_to(RECIPES):
        read(found)
