"""V of prefixes through vLLM's pooling, against a forward pass of the model and the head's own words."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from fpa_verl.demo.make import place_base_model
from fpa_verl.integration.servers.awaiting import Background
from fpa_verl.integration.servers.values import TOGETHER, ValueClient
from fpa_verl.objectives.value_head import ValueHead


class Server:
    """Says of each prefix its length over 1,000, and writes its calls down; the first lasts until it is let go."""

    def __init__(self) -> None:
        self.calls, self.may_go = [], asyncio.Event()
        self.values = self

    async def remote(self, prefixes):
        self.calls.append(len(prefixes))
        if len(self.calls) == 1:
            await self.may_go.wait()
        return [len(ids) / 1000 for ids in prefixes]


class Dying:
    def __init__(self) -> None:
        self.values = self

    async def remote(self, prefixes):
        raise RuntimeError("gone")


def test_what_is_asked_while_a_server_is_busy_goes_to_it_together():
    async def ask() -> tuple[list[float], list[int]]:
        server = Server()
        client = ValueClient([server], Background())
        first = asyncio.ensure_future(client.value([1]))
        while not server.calls:
            await asyncio.sleep(0)
        others = [asyncio.ensure_future(client.value([1] * n)) for n in range(2, 9)]
        await asyncio.sleep(0)
        server.may_go.set()
        return await asyncio.gather(first, *others), server.calls

    assert asyncio.run(ask()) == ([n / 1000 for n in range(1, 9)], [1, 7])


def test_servers_share_what_is_asked_for_at_once():
    async def ask() -> list[list[int]]:
        servers = [Server(), Server()]
        for server in servers:
            server.may_go.set()
        client = ValueClient(servers, Background())
        await asyncio.gather(*(client.value([1] * n) for n in range(1, 2 * TOGETHER + 8)))
        return [server.calls for server in servers]

    found = asyncio.run(ask())
    assert sum(map(sum, found)) == 2 * TOGETHER + 7
    assert max(map(max, found)) == TOGETHER


def test_whoever_waits_hears_of_a_death_and_nobody_waits_for_ever():
    async def ask() -> list[float | BaseException]:
        client = ValueClient([Dying()], Background())
        return await asyncio.gather(*(client.value([n]) for n in range(5)), return_exceptions=True)

    assert [str(error) for error in asyncio.run(ask())] == ["gone"] * 5


@pytest.mark.engine
@pytest.mark.patient
def test_values_are_those_of_the_head_on_the_last_hidden_state(tmp_path):
    place_base_model(tmp_path, "habit")
    folder = tmp_path / "model"
    (tmp_path / "base_model").rename(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(3)
    head = ValueHead(model.config.hidden_size, initializer_range=0.5).eval()
    head.save(folder)
    draw = random.Random(0)
    prefixes = [[draw.randrange(model.config.vocab_size) for _ in range(draw.randrange(1, 60))] for _ in range(40)]
    # One begins another: its states are in the engine's cache by then.
    prefixes.append(prefixes[-1] + prefixes[0])
    (tmp_path / "prefixes.json").write_text(json.dumps(prefixes))
    command = [sys.executable, "-m", "tests.integration.valuing", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = json.loads((tmp_path / "values.json").read_text())
    with torch.no_grad():
        expected = [float(head(model.model(torch.tensor([ids])).last_hidden_state[0, -1])) for ids in prefixes]
    assert said["values"] == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.5
    assert said["again"] == pytest.approx(said["values"][:3], abs=1e-4)
    assert set(said["lost"]) == {"ActorDiedError"}
