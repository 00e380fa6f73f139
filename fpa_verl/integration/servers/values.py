"""V of prefixes while a policy writes: last hidden states by vLLM's pooling, and the value head beside the model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from omegaconf import DictConfig
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from verl.utils.device import get_visible_devices_keyword

from fpa_verl.integration.config.steps import values_folder
from fpa_verl.integration.say import say
from fpa_verl.integration.servers.awaiting import Background, bring
from fpa_verl.objectives.value_head import ValueHead

# Prefixes that are handed to a server together at most.
TOGETHER = 1024


@dataclass(frozen=True)
class ValueModel:
    """Which model says what a prefix is worth, and how it is held.

    Attributes:
        folder: a model in Hugging Face format with a value head beside it.
        max_model_len: tokens of the longest prefix.
        dtype: what the trunk computes in, as vLLM calls it; the head computes in its own.
        memory: share of a device's memory that the engine may take.
        eager: without CUDA graphs.
    """

    folder: Path
    max_model_len: int
    dtype: str
    memory: float
    eager: bool = False


@dataclass(frozen=True)
class Device:
    """Where a server runs: a node of Ray's, and the devices that it sees there, as the platform's variable has them."""

    node: str
    visible: str = ""


class ValueServer:
    """An engine that generates nothing: it gives the last hidden state of each prefix, and the head reads it."""

    def __init__(self, model: ValueModel, device: Device) -> None:
        # Before vLLM looks; one process has the engine, as nobody but this one asks it anything.
        os.environ[get_visible_devices_keyword()] = device.visible
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from vllm import LLM
        from vllm.config import PoolerConfig

        self._head = ValueHead.load(model.folder).eval()
        self._engine = LLM(
            model=str(model.folder),
            runner="pooling",
            convert="embed",
            # The hidden state as it is, and not its direction alone.
            pooler_config=PoolerConfig(pooling_type="LAST", use_activation=False),
            dtype=model.dtype,
            max_model_len=model.max_model_len,
            gpu_memory_utilization=model.memory,
            enforce_eager=model.eager,
            enable_prefix_caching=True,
        )

    @torch.inference_mode()
    def values(self, prefixes: Sequence[Sequence[int]]) -> list[float]:
        """V of each, between -1 and 1."""
        outputs = self._engine.embed([{"prompt_token_ids": list(ids)} for ids in prefixes], use_tqdm=False)
        hidden = torch.tensor([output.outputs.embedding for output in outputs])
        return [float(value) for value in self._head(hidden)]


def value_servers(config: DictConfig, group: str, servers: Sequence[ActorHandle]) -> list[ActorHandle]:
    """One beside each rollout server, of several GPUs that one has on the first; none where no value model is named.

    Args:
        config: the recipe.
        group: the keys of the search, `value_model` and `value_memory` among them.
        servers: verl's, of `vllm_server.py`.
    """
    if config[group].value_model is None:
        return []
    say("starting vLLM once more, for values")
    rollout = config.actor_rollout_ref.rollout
    model = ValueModel(
        values_folder(config, group),
        max_model_len=rollout.max_model_len,
        dtype=rollout.dtype,
        memory=config[group].value_memory,
        eager=rollout.enforce_eager,
    )
    found: list[tuple[str, str]] = ray.get([server.device.remote() for server in servers])
    return start_value_servers(model, [Device(*one) for one in found])


def start_value_servers(model: ValueModel, devices: Sequence[Device]) -> list[ActorHandle]:
    """One server a device; they share it with whoever else is there, within `model.memory`.

    Raises:
        ray.exceptions.RayActorError: one did not start; its words are in the log.
    """
    kind: Any = ray.remote(ValueServer)
    servers = [
        kind.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=device.node, soft=False)
        ).remote(model, device)
        for device in devices
    ]
    # Until they hold the model.
    ray.get([server.__ray_ready__.remote() for server in servers])
    return servers


class ValueClient:
    """The `driver.Values` of searches: what is asked for while servers are busy goes to them together.

    Args:
        servers: of `start_value_servers`.
        background: where they are waited for.
    """

    def __init__(self, servers: Sequence[ActorHandle], background: Background) -> None:
        self._background, self._idle = background, list(servers)
        self._waiting: list[tuple[Sequence[int], asyncio.Future[float]]] = []

    async def value(self, prefix_ids: Sequence[int]) -> float:
        """V of prompt and steps, between -1 and 1.

        Raises:
            Exception: a server, or whoever else the run waits for, has died.
        """
        value = self._background.awaited()
        self._waiting.append((prefix_ids, value))
        # Whoever else asks in this turn of the loop travels along.
        asyncio.get_running_loop().call_soon(self._hand_over)
        return float(await value)

    def _hand_over(self) -> None:
        while self._waiting and self._idle:
            share = min(TOGETHER, -(-len(self._waiting) // len(self._idle)))
            taken, self._waiting = self._waiting[:share], self._waiting[share:]
            self._background.start(self._ask(self._idle.pop(), taken))

    async def _ask(self, server: ActorHandle, taken: list[tuple[Sequence[int], asyncio.Future[float]]]) -> None:
        found = await server.values.remote([list(ids) for ids, _ in taken])
        for (_, future), value in zip(taken, found, strict=True):
            bring(future, value)
        self._idle.append(server)
        self._hand_over()
