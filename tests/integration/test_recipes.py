"""Every recipe composes, passes verl's own validation and builds verl's dataclasses, at both scales."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config

from fpa_verl.paths import RECIPES
from tests.integration.running import DEMO, composed

NAMES = sorted(file.stem for file in (RECIPES / "recipe").glob("*.yaml"))


def test_the_recipes_of_the_product_are_there():
    assert {"collect", "fpa_offline", "off_rl", "grpo_baseline"} <= set(NAMES)


@pytest.mark.parametrize("scale", [(), DEMO], ids=["paper", "demo"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:Disabled critic")
def test_valid_for_verl(name, scale, base_model):
    # The only change: a model that is at hand.
    config = composed(name, *scale, f"actor_rollout_ref.model.path={base_model}")
    assert not OmegaConf.missing_keys(config) - {"reward.reward_model.rollout.name"}
    validate_config(config, need_reference_policy(config), need_critic(config))
    for part in ("actor", "rollout", "model"):
        omega_conf_to_dataclass(config.actor_rollout_ref[part])
    # verl's worker renames these keys of the reference's section before it builds it.
    reference = OmegaConf.to_container(config, resolve=True)["actor_rollout_ref"]["ref"]
    reference["use_dynamic_bsz"] = reference.pop("log_prob_use_dynamic_bsz")
    renamed = {name.replace("log_prob_", "ppo_"): value for name, value in reference.items()}
    omega_conf_to_dataclass(OmegaConf.create(renamed))


@pytest.mark.parametrize("name", NAMES)
def test_headers_say_purpose_command_and_hardware(name):
    header = [line for line in (RECIPES / "recipe" / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    text = "\n".join(header)
    assert f"recipe={name}" in text
    assert "Hardware" in text


def test_offline_and_online_share_model_scorer_and_evaluation():
    configs = [composed(name) for name in ("fpa_offline", "off_rl", "grpo_baseline")]
    for key in (
        "actor_rollout_ref.model.path",
        "reward.custom_reward_function",
        "data.val_files",
        "data.max_response_length",
        "actor_rollout_ref.rollout.val_kwargs",
        "trainer.n_gpus_per_node",
    ):
        first, *others = [OmegaConf.select(config, key) for config in configs]
        assert all(other == first for other in others), key


def test_off_rl_and_fpa_differ_in_the_policy_loss_alone():
    fpa, off_rl = (OmegaConf.to_container(composed(name)) for name in ("fpa_offline", "off_rl"))
    fpa["actor_rollout_ref"]["actor"].pop("policy_loss")
    off_rl["actor_rollout_ref"]["actor"].pop("policy_loss")
    assert fpa.pop("recipe_name") != off_rl.pop("recipe_name")
    assert fpa == off_rl


@pytest.mark.patient
def test_unknown_recipe_lists_those_that_exist(launch):
    done = launch("recipe=nope")
    assert done.returncode != 0
    assert "recipe=nope: choose from a_star_po" in done.stderr
    for name in NAMES:
        assert name in done.stderr


@pytest.mark.patient
def test_cfg_job_starts_no_ray_and_takes_overrides(launch):
    done = launch("recipe=fpa_offline", *DEMO, "actor_rollout_ref.actor.policy_loss.lam=5", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "lam: 5" in done.stdout
    assert "ray" not in done.stderr.lower()


@pytest.mark.patient
def test_verls_own_main_finds_the_recipes(launch):
    done = launch("+recipe=fpa_offline", *DEMO, "--cfg", "job", module="verl.trainer.main_ppo")
    assert done.returncode == 0, done.stderr
    assert "loss_mode: fpa" in done.stdout
