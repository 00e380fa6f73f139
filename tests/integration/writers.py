"""Rollout servers and scorers of one process, that answer late and out of order, as Ray's actors do by their calls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from omegaconf import DictConfig
from ray.exceptions import RayTaskError
from verl.workers.rollout.replica import TokenOutput

from fpa_verl.demo.model import END
from fpa_verl.integration.servers.batches import Generated, Request
from fpa_verl.integration.servers.direct import DirectServers
from fpa_verl.integration.servers.reward_manager import RESPONSES
from fpa_verl.reward.verdicts import Verdict

# What may stand behind any prefix.
STEPS = ("1+2=3;", "1+2=4;", "7;", rf"\boxed{{3}}{END}", rf"\boxed{{4}}{END}")
Written = Callable[[Request, dict[str, Any]], list[int] | None]


class Actor:
    """Its methods are called as an actor's: `actor.method.remote(...)` is something to await."""

    def __getattr__(self, name: str) -> SimpleNamespace:
        method = object.__getattribute__(self, f"do_{name}")
        return SimpleNamespace(remote=lambda *arguments: asyncio.ensure_future(method(*arguments)))


@dataclass
class Writer(Actor):
    """A rollout server: writes what `written` says, None where it gives a request up.

    Attributes:
        taken: sizes of what it was handed.
        seen: parameters of every request.
        most: requests that it ever had at once.
    """

    written: Written
    waits: random.Random = field(default_factory=lambda: random.Random(0))
    taken: list[int] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    most: int = 0
    finished: list[str] = field(default_factory=list)
    outputs: list[tuple[int, TokenOutput | None]] = field(default_factory=list)
    under_way: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def do_submit(self, name: str, requests: list[Request], sampling: dict[str, Any]) -> None:
        self.taken.append(len(requests))
        self.under_way += len(requests)
        self.most = max(self.most, self.under_way)
        for request in requests:
            self.seen.append({**sampling, **request.sampling})
            task = asyncio.ensure_future(self._write(request, self.seen[-1]))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _write(self, request: Request, sampling: dict[str, Any]) -> None:
        await asyncio.sleep(self.waits.random() / 100)
        ids = self.written(request, sampling)
        output = ids and TokenOutput(token_ids=ids, log_probs=[-0.5 - 0.01 * len(ids)] * len(ids), extra_fields={})
        self.outputs.append((request.number, output or None))

    async def do_collect(self, name: str) -> Generated:
        while not self.outputs:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        found, self.outputs = self.outputs, []
        self.under_way -= len(found)
        return Generated.of(found)

    async def do_finish(self, name: str) -> None:
        self.finished.append(name)


@dataclass
class Scorer(Actor):
    """A worker of the reward loop: right is what ends in a 3; `fails` says what it raises for, and for which."""

    tokenizer: Any
    fails: Callable[[str], Exception | None] = lambda text: None
    taken: list[int] = field(default_factory=list)

    async def do_compute_score(self, batch: Any) -> list[dict[str, Any]]:
        responses = batch.meta_info[RESPONSES]
        self.taken.append(len(responses))
        await asyncio.sleep(0.002)
        return [self._verdict(self.tokenizer.decode(one.token_ids, skip_special_tokens=True)) for one in responses]

    def _verdict(self, text: str) -> dict[str, Any]:
        error = self.fails(text)
        if isinstance(error, RayTaskError):
            raise error
        verdict = Verdict("error" if error else "right" if text.endswith("{3}") else "wrong")
        raised = {"scorer_raised": repr(error)} if error else {}
        return {"reward_score": verdict.score, "reward_extra_info": {"status": verdict.status, **raised}}


def drawn(tokenizer: Any) -> Written:
    """One of `STEPS` behind any prefix, by the request's seed."""

    def written(request: Request, sampling: dict[str, Any]) -> list[int]:
        text = random.Random(sampling["seed"]).choice(STEPS)
        return list(tokenizer.encode(text, add_special_tokens=False))[: sampling["max_tokens"]]

    return written


def direct(
    config: DictConfig,
    tokenizer: Any,
    servers: list[Writer],
    scorers: list[Scorer],
    require_alive: Callable[[], None] = lambda: None,
) -> DirectServers:
    """Those servers and scorers as `DirectServers` has verl's."""
    weights = SimpleNamespace(require_whole=lambda: None)
    return DirectServers(config, servers, scorers, SimpleNamespace(tokenizer=tokenizer), weights, require_alive)
