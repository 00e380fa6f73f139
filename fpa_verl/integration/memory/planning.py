"""The memory of several recipes, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any
from unittest import mock

from omegaconf import DictConfig, OmegaConf
from transformers import PretrainedConfig

from fpa_verl.errors import ConfigError, FpaError
from fpa_verl.integration.config.settings import FLASH
from fpa_verl.integration.kernels.attention import NAME
from fpa_verl.integration.memory.fits import Planned, StepMemory
from fpa_verl.integration.memory.models import first_line

SOURCES = ("forward", "hidden", "topk")
# What is planned for: a name, and what to type.
RECIPES = (
    ("off_rl", ("recipe=off_rl",)),
    *((f"fpa_offline, {source}", ("recipe=fpa_offline", f"reference.source={source}")) for source in SOURCES),
    ("off_rl_kl", ("recipe=off_rl_kl",)),
    ("grpo_baseline", ("recipe=grpo_baseline",)),
)
# Shapes are not computed with on more cores than there are, nor held in more memory than there may be.
PROCESSES = 8
# Seconds of a core for one step, which takes some fifteen: what takes so much longer does not go through shapes.
LIMIT_S = 300
# No GPU is touched, and verl is not to look for one.
ENVIRONMENT = {"VERL_PLATFORM": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

# Keys that change what a step takes, and the values that are reckoned with.
RECKONED: dict[str, tuple[Any, ...]] = {
    "actor_rollout_ref.actor.strategy": ("fsdp2",),
    "actor_rollout_ref.actor.use_dynamic_bsz": (True,),
    "actor_rollout_ref.model.use_remove_padding": (True,),
    "actor_rollout_ref.model.use_fused_kernels": (False,),
    "actor_rollout_ref.model.enable_activation_offload": (False,),
    "actor_rollout_ref.model.override_config.attn_implementation": (FLASH, NAME),
    **{
        f"actor_rollout_ref.{role}.fsdp_config.{name}": (False,)
        for role in ("actor", "ref")
        for name in ("param_offload", "optimizer_offload", "offload_policy")
    },
}


def require_reckoned(config: DictConfig) -> None:
    """Refuse settings whose memory is not reckoned, for a figure without them would be another's.

    Raises:
        ConfigError: naming the key.
    """
    for key, known in RECKONED.items():
        if (found := OmegaConf.select(config, key)) not in (*known, None):
            said, *these = (str(one).lower() for one in (found, *known))
            raise ConfigError(f"{key}={said}: memory is reckoned with {' or '.join(these)} alone: leave it so")


def planned(
    configs: Sequence[tuple[str, DictConfig]], hf_config: PretrainedConfig, devices: Sequence[int]
) -> list[Planned]:
    """Each recipe on each number of GPUs, recipe by recipe.

    Args:
        configs: name and composed configuration of each.
        hf_config: the model's.
        devices: numbers of GPUs.

    Raises:
        ConfigError: a key is set to what is not reckoned, or a model or a setting cannot be.
    """
    for _, config in configs:
        require_reckoned(config)
    lines = [(name, config, number) for name, config in configs for number in devices]
    found = _in_processes([(config, hf_config, number) for _, config, number in lines])
    return [
        _planned(name, number, config.actor_rollout_ref.rollout, memory)
        for (name, config, number), memory in zip(lines, found, strict=True)
    ]


def _planned(name: str, devices: int, rollout: DictConfig, memory: StepMemory) -> Planned:
    sleeps = bool(rollout.free_cache_engine and rollout.get("enable_sleep_mode", True))
    return Planned(name, devices, float(rollout.gpu_memory_utilization), memory, sleeps)


def _in_processes(jobs: Sequence[tuple[DictConfig, PretrainedConfig, int]]) -> list[StepMemory]:
    workers = min(PROCESSES, os.cpu_count() or 1, len(jobs))
    with (
        mock.patch.dict(os.environ, ENVIRONMENT),
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_silent) as pool,
    ):
        try:
            return list(pool.map(_limited, *zip(*jobs, strict=True), [LIMIT_S] * len(jobs)))
        except BrokenProcessPool as error:
            raise ConfigError(
                f"a step of a {jobs[0][1].model_type} was not reckoned within {LIMIT_S} s of a core, or in the memory "
                "that is here: leave out --override, take fewer --micro-batch-tokens, or take another --model"
            ) from error


def _limited(config: DictConfig, hf_config: PretrainedConfig, devices: int, limit_s: int) -> StepMemory:
    # Of the time that this process works. Nobody handles the signal, which ends it whatever it is at.
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        return _step_memory(config, hf_config, devices)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _silent() -> None:
    """Verl and torch tell of every engine that is made."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _step_memory(config: DictConfig, hf_config: PretrainedConfig, devices: int) -> StepMemory:
    # Imported here, verl finds the environment and the streams of this process.
    from fpa_verl.integration.memory.step import step_memory

    try:
        return step_memory(config, hf_config, devices)
    except FpaError:
        raise
    except Exception as error:  # of a kind of model or a setting that nobody tried here
        raise ConfigError(
            f"the memory of {config.recipe_name} with a {hf_config.model_type} on {devices} cannot be reckoned "
            f"({type(error).__name__}: {first_line(error)}): leave out --override, or take another --model"
        ) from None
