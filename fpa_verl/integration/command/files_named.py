"""Configuration files that a command names: where they lie and what their defaults say, before hydra looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fpa_verl.commands import Command
from fpa_verl.errors import ConfigError
from fpa_verl.paths import RECIPES

# hydra's options for a file's name.
CONFIG_NAME = ("--config-name", "-cn")
# An entry of the defaults that stands for the file itself.
ITSELF = "_self_"
# What may stand before a group in the defaults.
MODIFIERS = ("override ", "optional ")


@dataclass(frozen=True)
class Entry:
    """An entry of a file's defaults. group: empty of a file that lies beside it; file: whose defaults name it."""

    group: str
    name: str
    file: Path

    def __str__(self) -> str:
        return f"{self.file}: {f'{self.group}: ' if self.group else ''}{self.name}"


def values(command: Command, *flags: str) -> list[str]:
    """Of an option, typed `--config-dir FOLDER` or `--config-dir=FOLDER`."""
    found = []
    for place, word in enumerate(command.flags):
        name, is_joined, value = word.partition("=")
        if name in flags:
            found.append(value if is_joined else command.flags[place + 1])
    return found


def own_folders(command: Command) -> list[Path]:
    """Folders of the user's own, there or not."""
    return [Path(folder).expanduser() for folder in values(command, "--config-dir", "-cd")]


def own_file(command: Command) -> Path | None:
    """The configuration file of the user's own that the command names; None where it names none.

    Raises:
        ConfigError: there is no such file.
    """
    names, folders = values(command, *CONFIG_NAME), own_folders(command)
    if not names or find(names[-1], _of_the_packages()):
        return None
    if file := find(names[-1], folders):
        return file
    if not folders:
        hint = f"add --config-dir FOLDER, which holds {_plain(names[-1])}.yaml"
    else:
        known = sorted(file.stem for folder in folders for file in folder.glob("*.yaml"))
        hint = f"no such file in {', '.join(map(str, folders))}, which has {', '.join(known) or 'none'}"
    raise ConfigError(f"--config-name {names[-1]}: {hint}")


def find(name: str, folders: list[Path]) -> Path | None:
    """The first file of this name, the end of which may be left out."""
    return next((file for folder in folders if (file := folder / f"{_plain(name)}.yaml").is_file()), None)


def read(file: Path) -> DictConfig:
    """A configuration file as it is written.

    Raises:
        ConfigError: hydra could not read it; in which line, and why.
    """
    try:
        found = OmegaConf.load(file)
    except yaml.MarkedYAMLError as error:
        where = f"{file}, line {error.problem_mark.line + 1}" if error.problem_mark else str(file)
        raise ConfigError(f"{where}: {error.problem}") from error
    except (yaml.YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {' '.join(str(error).split())}") from error
    if not isinstance(found, DictConfig):
        raise ConfigError(f"{file}: a configuration file holds keys and their values")
    return found


def entries(file: Path, folders: list[Path]) -> Iterator[Entry]:
    """What the defaults of a file name, and those of the files of one's own beside it that they name.

    Entries that hydra is to put elsewhere (`GROUP@PACKAGE`) are left out.

    Raises:
        ConfigError: a file cannot be read, or is not there.
    """
    defaults = read(file).get("defaults")
    if defaults is None:
        # A whole configuration, as a run of verl writes it.
        return
    if not isinstance(defaults, ListConfig):
        raise ConfigError(f"{file}: defaults: is a list, each line of which begins with -")
    for one in OmegaConf.to_container(defaults, resolve=False):  # type: ignore[union-attr]
        for group, named in one.items() if isinstance(one, dict) else [("", one)]:
            for name in named if isinstance(named, list) else [named]:
                yield from _entry(Entry(_bare(str(group)), str(name), file), folders)


def _entry(entry: Entry, folders: list[Path]) -> Iterator[Entry]:
    if entry.name == ITSELF or any(sign in f"{entry.group}{entry.name}" for sign in "@$"):
        return
    yield entry
    if entry.group or find(_bare(entry.name), _of_the_packages()):
        return
    beside = find(_bare(entry.name), folders)
    if beside is None:
        raise ConfigError(f"{entry}: neither verl nor {', '.join(map(str, folders))} has such a file")
    yield from entries(beside, folders)


def _bare(text: str) -> str:
    for modifier in MODIFIERS:
        text = text.removeprefix(modifier)
    return text.removeprefix("/")


def _plain(name: str) -> str:
    return name.removesuffix(".yaml").removesuffix(".yml")


def _of_the_packages() -> list[Path]:
    """Where verl's own configuration and the recipes are; verl is found and not imported, which takes seconds."""
    found = find_spec("verl")
    assert found is not None
    assert found.origin is not None
    return [Path(found.origin).parent / "trainer" / "config", RECIPES]
