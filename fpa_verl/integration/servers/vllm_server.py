"""verl's vLLM server with a door for many requests at a time: one call hands them over, another takes what has come.

verl's own has one call a request, and asks vLLM for an output at every token. Registered in the place of verl's under
the same name (`RolloutReplicaRegistry`), so that whatever else verl asks of a server is answered by verl's code.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import ray
from verl.utils.device import get_visible_devices_keyword
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.vllm_rollout import vllm_async_server as verls
from vllm.sampling_params import RequestOutputKind

from fpa_verl.integration.safety.said_once import REQUEST_FAILED, SaidOnce
from fpa_verl.integration.servers.batches import Generated, Request

logger = logging.getLogger(__name__)
logger.addFilter(SaidOnce())

# Answers that come within so many seconds of one another travel together.
TOGETHER_S = 0.1


@dataclass
class Round:
    """Requests that were handed over together or one after the other, and what has come of them."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    outputs: list[tuple[int, TokenOutput | None]] = field(default_factory=list)
    some: asyncio.Event = field(default_factory=asyncio.Event)


# Named as verl's: processes, logs and whoever looks for one of them know it by that.
class vLLMHttpServer(verls.vLLMHttpServer):  # noqa: N801
    """verl's, and the calls of `direct.DirectServers`."""

    @cached_property
    def _rounds(self) -> dict[str, Round]:
        return {}

    async def submit(self, name: str, requests: Sequence[Request], sampling: Mapping[str, Any]) -> None:
        """Take more requests of a round, and begin with them.

        Args:
            name: the round's.
            requests: each with a number of its own in the round.
            sampling: parameters of all of them, as verl's `generate` takes them.
        """
        this = self._rounds.setdefault(name, Round())
        for request in requests:
            own = {**sampling, **request.sampling}
            # Nobody looks at an answer before it is whole, and nobody reads the text unless it can end one.
            lean = {"output_kind": RequestOutputKind.FINAL_ONLY, "detokenize": bool(own.get("stop"))}
            task = asyncio.create_task(self._answer(this, request, {**own, **lean}))
            this.tasks.add(task)
            task.add_done_callback(this.tasks.discard)

    async def _answer(self, this: Round, request: Request, sampling: dict[str, Any]) -> None:
        try:
            output = await self.generate(list(request.prompt_ids), sampling, uuid.uuid4().hex)
        except Exception as error:  # whatever vLLM raises for a request that it does not take
            logger.error(REQUEST_FAILED, exc_info=error)
            output = None
        this.outputs.append((request.number, output))
        this.some.set()

    async def device(self) -> tuple[str, str]:
        """The node, and the devices that it sees there, as the platform's variable has them."""
        return ray.get_runtime_context().get_node_id(), os.environ.get(get_visible_devices_keyword(), "")

    async def collect(self, name: str) -> Generated:
        """What has come of a round since it was last asked for, as soon as there is something."""
        this = self._rounds.setdefault(name, Round())
        await this.some.wait()
        if this.tasks:
            await asyncio.sleep(TOGETHER_S)
        found, this.outputs = this.outputs, []
        this.some.clear()
        return Generated.of(found)

    async def finish(self, name: str) -> None:
        """Forget a round, whatever is still to come of it."""
        this = self._rounds.pop(name, Round())
        for task in list(this.tasks):
            task.cancel()
        # Whoever still waits for something.
        this.some.set()


class vLLMReplica(verls.vLLMReplica):  # noqa: N801
    """verl's, with servers of ours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(vLLMHttpServer)
