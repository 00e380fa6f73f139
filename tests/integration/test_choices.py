"""A recipe, task or machine that is not there is said in one line, with those that are."""

from __future__ import annotations

import sys

import pytest

from fpa_verl.commands import Command
from fpa_verl.errors import ConfigError
from fpa_verl.integration.command import launch
from fpa_verl.integration.command.choices import require_choices
from fpa_verl.integration.command.compose import composed


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_recipes/task").mkdir(parents=True)
    (tmp_path / "my_recipes/task/words.yaml").write_text("# @package _global_\n")


def test_a_task_that_is_not_there(own):
    hint = "; for one of your own add --config-dir FOLDER, which holds task/words.yaml"
    with pytest.raises(ConfigError) as caught:
        composed(Command.of(["recipe=collect", "task=words"]))
    assert str(caught.value) == f"task=words: choose from demo, math12k{hint}"
    with pytest.raises(ConfigError, match=r"^task=wordz: choose from demo, math12k, words$"):
        require_choices(Command.of(["--config-dir", "my_recipes", "+recipe=collect", "task=wordz"]))
    with pytest.raises(ConfigError, match=r"^recipe=colect: choose from a_star_po, .*, topr;"):
        require_choices(Command.of(["-m", "recipe=sft,colect"]))


def test_a_folder_that_is_not_there(own):
    with pytest.raises(ConfigError, match=r"^--config-dir my_recipe: no such folder; give the one that holds your own"):
        require_choices(Command.of(["--config-dir=my_recipe", "recipe=collect"]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config-dir", "my_recipes", "recipe=collect", "task=words"],
        ["-cd=my_recipes", "recipe=sft, dpo", "task=words.yaml", "hardware=cpu"],
        ["recipe=collect", "task=elsewhere", "hydra.searchpath=[file:///x]"],
        ["--config-path", "/x", "recipe=elsewhere"],
        ["recipe=collect", "actor_rollout_ref.model.path=x", "prompt.name=x", "~task"],
    ],
)
def test_what_is_there_or_hydras_to_find_passes(own, arguments):
    require_choices(Command.of(arguments))


def test_the_command_ends_with_the_one_line(own, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main", "recipe=collect", "task=wordz"])
    with pytest.raises(SystemExit, match=r"^error: task=wordz: choose from demo, math12k; "):
        launch.main()
