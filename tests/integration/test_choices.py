"""A recipe, task or machine that is not there is said in one line, with those that are."""

from __future__ import annotations

import sys

import pytest

from fpa_verl.commands import MAIN, VERLS_MAIN, Command
from fpa_verl.errors import ConfigError
from fpa_verl.integration.command import launch
from fpa_verl.integration.command.choices import end_where_refused, require_choices
from fpa_verl.integration.command.compose import composed
from tests.integration.running import DEMO


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


def named(folder, text, name="mine"):
    """Words that name a file of one's own."""
    (folder / "my_recipes" / f"{name}.yaml").write_text(text)
    return ["--config-dir", "my_recipes", "--config-name", name]


WITH = "defaults:\n  - ppo_trainer\n  - recipe: dpo\n  - _self_\n"
WITHOUT = "defaults: [ppo_trainer, _self_]\n"


@pytest.mark.parametrize(
    ("text", "words", "start", "message"),
    [
        (
            WITH,
            ["+recipe=sft"],
            VERLS_MAIN,
            r"my_recipes/mine.yaml names a recipe .*; type recipe=sft, without the \+$",
        ),
        (WITH, ["+recipe=dpo"], MAIN, r"type recipe=dpo, without the \+$"),
        (
            WITHOUT,
            ["recipe=sft"],
            VERLS_MAIN,
            r"add the line `- recipe: sft` to its defaults, before _self_, or type \+r",
        ),
        (WITHOUT, ["recipe=sft"], MAIN, r"mine.yaml names no recipe"),
        (None, ["recipe=sft"], VERLS_MAIN, r"type \+recipe=sft$"),
        (None, ["+recipe=sft"], MAIN, r"type recipe=sft, without the \+$"),
    ],
)
def test_the_word_that_names_a_recipe_is_told_by_what_is_there(own, tmp_path, text, words, start, message):
    flags = named(tmp_path, text) if text else []
    with pytest.raises(ConfigError, match=message):
        require_choices(Command.of([*flags, *words], start))


@pytest.mark.parametrize(
    ("text", "words", "start"),
    [
        (WITH, ["recipe=sft", "hardware=cpu"], VERLS_MAIN),
        (WITHOUT, ["+recipe=sft"], VERLS_MAIN),
        ("defaults: [with, _self_]\n", ["recipe=sft"], MAIN),
        ("defaults:\n  - ppo_trainer\n  - optional /recipe: dpo\n  - actor@x: y\n  - override task: words\n", [], MAIN),
        ("hydra: {searchpath: [pkg://elsewhere]}\ndefaults: [ppo_trainer, {recipe: theirs}]\n", [], MAIN),
        (WITH.replace("dpo", "dppo"), ["recipe=dpo"], MAIN),
        ("trainer: {nnodes: 1}\n", [], VERLS_MAIN),
        (None, ["--config-name", "ppo_trainer", "+recipe=sft"], MAIN),
    ],
)
def test_the_right_word_passes(own, tmp_path, text, words, start):
    named(tmp_path, WITH, "with")
    require_choices(Command.of([*(named(tmp_path, text) if text else []), *words], start))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WITH.replace("dpo", "dppo"), r"^my_recipes/mine.yaml: recipe: dppo: choose from a_star_po, .*, topr$"),
        (f"{WITH}scale:\n\tlr: 1\n", r"^my_recipes/mine.yaml, line 6: found character '\\t'"),
        ("defaults: ppo_trainer\n", r"mine.yaml: defaults: is a list"),
        ("- ppo_trainer\n", r"mine.yaml: a configuration file holds keys"),
        ("a: ${b\n", r"^my_recipes/mine.yaml: \S.*"),
        (
            "defaults: [ppo_trianer]\n",
            r"^my_recipes/mine.yaml: ppo_trianer: neither verl nor my_recipes has such a file$",
        ),
    ],
)
def test_a_file_that_hydra_could_not_use_is_refused_in_one_line(own, tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as refused:
        composed(Command.of(named(tmp_path, text)))
    assert "\n" not in str(refused.value)


def test_a_task_file_that_cannot_be_read(own, tmp_path):
    (tmp_path / "my_recipes/task/tabs.yaml").write_text("scale:\n\ta: 1\n")
    with pytest.raises(ConfigError, match=r"^my_recipes/task/tabs.yaml, line 2: "):
        require_choices(Command.of(["--config-dir", "my_recipes", "recipe=collect", "task=tabs"]))


def test_a_file_that_is_not_there(own, tmp_path):
    named(tmp_path, WITH)
    with pytest.raises(ConfigError, match=r"^--config-name mien: no such file in my_recipes, which has mine$"):
        require_choices(Command.of(["--config-dir", "my_recipes", "--config-name", "mien"]))
    with pytest.raises(ConfigError, match=r"^--config-name mien.yaml: add --config-dir FOLDER, which holds mien.yaml$"):
        require_choices(Command.of(["-cn", "mien.yaml"]))


def test_a_file_without_verls_own_keys(own, tmp_path):
    found = composed(Command.of([*named(tmp_path, WITH.replace("  - ppo_trainer\n", "")), *DEMO]))
    with pytest.raises(ConfigError, match=r"begin the file's defaults with `- ppo_trainer`"):
        launch.require_recipe(found.config)


def test_of_verls_main_only_a_recipe_is_looked_at(own, tmp_path):
    with pytest.raises(SystemExit, match=r"^error: recipe=colect: choose from "):
        end_where_refused(Command.of(["+recipe=colect"], VERLS_MAIN))
    with pytest.raises(SystemExit, match=r"^error: my_recipes/mine.yaml: recipe: dppo: choose from "):
        end_where_refused(Command.of(named(tmp_path, WITH.replace("dpo", "dppo")), VERLS_MAIN))
    # Such files, folders and groups may be anybody's.
    end_where_refused(Command.of(["--config-name", "theirs", "--config-dir", "nowhere", "hardware=theirs"], VERLS_MAIN))
    # As a run of verl writes its configuration: whole, and without defaults.
    end_where_refused(Command.of(named(tmp_path, "trainer: {nnodes: 1}\n"), VERLS_MAIN))


def test_of_a_trace_of_hydras_the_error_is_said(own, tmp_path):
    flags = named(tmp_path, f"{WITH}trainer: [1]\n")
    with pytest.raises(ConfigError) as refused:
        composed(Command.of(flags))
    assert "Traceback" not in str(refused.value)
    assert "HYDRA_FULL_ERROR" not in str(refused.value)
