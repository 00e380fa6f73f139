"""The memory of several recipes, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

from omegaconf import DictConfig
from transformers import PretrainedConfig

from fpa_verl.integration.memory.fits import Planned, StepMemory

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
# No GPU is touched, and verl is not to look for one.
ENVIRONMENT = {"VERL_PLATFORM": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def planned(
    configs: Sequence[tuple[str, DictConfig]], hf_config: PretrainedConfig, devices: Sequence[int]
) -> list[Planned]:
    """Each recipe on each number of GPUs, recipe by recipe.

    Args:
        configs: name and composed configuration of each.
        hf_config: the model's.
        devices: numbers of GPUs.
    """
    jobs = [(config, hf_config, number) for _, config in configs for number in devices]
    workers = min(PROCESSES, os.cpu_count() or 1, len(jobs))
    with (
        mock.patch.dict(os.environ, ENVIRONMENT),
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_silent) as pool,
    ):
        found: list[StepMemory] = list(pool.map(_step_memory, *zip(*jobs, strict=True)))
    lines = [(name, config, number) for name, config in configs for number in devices]
    return [
        Planned(name, number, float(config.actor_rollout_ref.rollout.gpu_memory_utilization), memory)
        for (name, config, number), memory in zip(lines, found, strict=True)
    ]


def _silent() -> None:
    """Verl and torch tell of every engine that is made."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _step_memory(config: DictConfig, hf_config: PretrainedConfig, devices: int) -> StepMemory:
    # Imported here, verl finds the environment and the streams of this process.
    from fpa_verl.integration.memory.step import step_memory

    return step_memory(config, hf_config, devices)
