"""docs/commands.md names every command, argument and option of `fpa-verl`, with its help and its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from fpa_verl.cli import app

PAGE = (Path(__file__).parents[1] / "docs" / "commands.md").read_text()


def commands(command, name="fpa-verl"):
    """Name to command, of all that can be typed."""
    if not hasattr(command, "commands"):
        return {name: command}
    found = {}
    for word, one in command.commands.items():
        found |= commands(one, f"{name} {word}")
    return found


COMMANDS = commands(get_command(app))


def section(name):
    return re.search(rf"^## `{name}(?: [^`]*)?`\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_described_as_its_help_describes_it(name):
    said = " ".join(section(name).split())
    assert " ".join(COMMANDS[name].help.split()) in said
    wanted = set()
    for one in COMMANDS[name].params:
        if one.param_type_name == "argument":
            wanted.add((f"`{one.name.upper()}`", one.help))
        elif one.name != "help":
            wanted.add((", ".join(f"`{option}`" for option in [*one.opts, *one.secondary_opts]), one.help))
    assert set(re.findall(r"^\| (.+?) \| (.+?) \| .*?\|$", section(name), flags=re.MULTILINE)[2:]) == wanted


def test_there_is_no_other_command():
    assert set(re.findall(r"^## `(fpa-verl(?: [a-z]+)+)", PAGE, flags=re.MULTILINE)) == set(COMMANDS)
