"""Commands that are written down: whole, quoted, and those made of them."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from fpa_verl.commands import Command, override

TYPED = (
    "python -m verl.trainer.main --config-dir 'my recipes' recipe=fpa_offline task=words hardware=cpu model=tiny "
    "rollouts=r run_dir=runs/x scale.lam=3 actor_rollout_ref.actor.policy_loss.lam=1 "
    "+actor_rollout_ref.model.override_config.a=1 '~collapse' data.selection.unit=group trainer.n_gpus_per_node=2 "
    "'prompt.text=Q: {problem}' reference.source=topk"
)


@pytest.mark.parametrize("value", ["runs/x", "a b", "it's", "lam=1,2", "back\\", "a\\'b", "[1]", "ü", "${no}", ""])
def test_a_value_comes_out_of_hydras_grammar_as_it_went_in(value):
    found = OverridesParser.create().parse_override(override("key", value))
    assert (found.value() if value else found.value() or "") == value
    assert not found.is_sweep_override()


@pytest.mark.parametrize(
    "text", [TYPED, "python -m verl.trainer.main_ppo -m +recipe=dpo,rpo", "python own.py +recipe=dpo"]
)
def test_what_is_read_is_written_again(text):
    assert shlex.split(str(Command.read(text))) == shlex.split(text)


def test_hydras_options_stand_on_one_side_whatever_was_typed():
    command = Command.of(["hardware=cpu", "--config-dir", "d", "recipe=collect", "--config-name=n", "-m"])
    assert command.arguments == ["-m", "--config-dir", "d", "--config-name=n", "hardware=cpu", "recipe=collect"]


def test_another_recipe_keeps_what_means_the_same_there():
    assert str(Command.read(TYPED).for_recipe("collect")) == (
        "python -m verl.trainer.main --config-dir 'my recipes' recipe=collect task=words hardware=cpu model=tiny "
        "rollouts=r scale.lam=3 +actor_rollout_ref.model.override_config.a=1 trainer.n_gpus_per_node=2 "
        "'prompt.text=Q: {problem}'"
    )


def test_a_cache_is_made_with_the_settings_that_it_is_of():
    assert str(Command.read(TYPED).for_recipe("cache_reference", {"reference.source": "hidden"})).endswith(
        "'prompt.text=Q: {problem}' reference.source=hidden"
    )


def test_a_value_that_is_given_takes_the_place_of_the_typed_one():
    command = Command.read("python -m verl.trainer.main_ppo +recipe=dpo rollouts=a").for_recipe(
        "collect", {"rollouts": "b c"}
    )
    assert command.arguments == ["+recipe=collect", "rollouts='b c'"]


def test_without_a_typed_command_there_is_the_short_form():
    assert (
        str(Command().for_recipe("collect", {"rollouts": "r"}))
        == "python -m verl.trainer.main recipe=collect rollouts=r"
    )


def test_a_job_of_several_is_a_command_of_its_own():
    several = Command.read("python -m verl.trainer.main -m --config-dir d recipe=dpo,rpo data.seed=0,1")
    assert (
        str(several.job(["recipe=rpo", "data.seed=1"]))
        == "python -m verl.trainer.main --config-dir d recipe=rpo data.seed=1"
    )
