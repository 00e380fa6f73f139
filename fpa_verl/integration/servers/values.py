"""V of prefixes while the policy writes: the last hidden states of vLLM's pooling, and the value head saved beside a model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import torch
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from verl.utils.device import get_visible_devices_keyword

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


def start_value_servers(model: ValueModel, devices: Sequence[Device]) -> list[ActorHandle]:
    """One server a device; they share it with whoever else is there, within `model.memory`.

    Raises:
        ray.exceptions.RayActorError: one did not start; its words are in the log.
    """
    kind = ray.remote(ValueServer)
    servers = [
        kind.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=device.node, soft=False)
        ).remote(model, device)
        for device in devices
    ]
    # Until they hold the model.
    ray.get([server.__ray_ready__.remote() for server in servers])
    return servers


@dataclass
class ValueClient:
    """The `driver.Values` of searches: what is asked for while servers are busy goes to them together.

    Attributes:
        servers: of `start_value_servers`.
        require_alive: raises who died, where one did.
    """

    servers: Sequence[ActorHandle]
    require_alive: Callable[[], None]
    _waiting: list[tuple[Sequence[int], asyncio.Future[float]]] = field(default_factory=list)
    _busy: set[asyncio.Task[None]] = field(default_factory=set)
    _idle: list[ActorHandle] = field(init=False)

    def __post_init__(self) -> None:
        self._idle = list(self.servers)

    async def value(self, prefix_ids: Sequence[int]) -> float:
        """V of prompt and steps, between -1 and 1."""
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((prefix_ids, answer))
        # Whoever else asks before the loop comes round travels along.
        asyncio.get_running_loop().call_soon(self._hand_over)
        return await answer

    def _hand_over(self) -> None:
        while self._waiting and self._idle:
            share = min(TOGETHER, -(-len(self._waiting) // len(self._idle)))
            taken, self._waiting = self._waiting[:share], self._waiting[share:]
            task = asyncio.ensure_future(self._ask(self._idle.pop(), taken))
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)

    async def _ask(self, server: ActorHandle, taken: list[tuple[Sequence[int], asyncio.Future[float]]]) -> None:
        try:
            found: Any = await server.values.remote([list(ids) for ids, _ in taken])
        except Exception as error:  # whatever ends an actor or its engine
            self._fail(taken, error)
            return
        finally:
            self._idle.append(server)
        for (_, answer), value in zip(taken, found, strict=True):
            if not answer.done():
                answer.set_result(value)
        self._hand_over()

    def _fail(self, taken: list[tuple[Sequence[int], asyncio.Future[float]]], error: Exception) -> None:
        """Everybody who waits hears of it; who died says the watchdog, where it knows."""
        try:
            self.require_alive()
        except Exception as cause:
            cause.__cause__ = error
            error = cause
        for _, answer in [*taken, *self._waiting]:
            if not answer.done():
                answer.set_exception(error)
        self._waiting = []
