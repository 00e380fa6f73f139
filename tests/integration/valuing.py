"""`python -m tests.integration.valuing FOLDER`: two real value servers say what prefixes are worth, then one dies.

FOLDER/model has a value head beside the model, FOLDER/prefixes.json token ids; FOLDER/values.json is written.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import ray
from omegaconf import OmegaConf
from ray.actor import ActorHandle

from fpa_verl.integration.command.launch import choose_cluster, set_environment
from fpa_verl.integration.servers.awaiting import Background
from fpa_verl.integration.servers.values import Device, ValueClient, ValueModel, start_value_servers
from tests.integration.running import DEMO, composed


async def values(servers: list[ActorHandle], prefixes: list[list[int]]) -> list[float | BaseException]:
    client = ValueClient(servers, Background())
    return await asyncio.gather(*(client.value(ids) for ids in prefixes), return_exceptions=True)


def main(folder: Path) -> None:
    config = composed("collect", *DEMO, f"actor_rollout_ref.model.path={folder}/model", f"rollouts={folder}/rollouts")
    OmegaConf.set_struct(config, False)
    set_environment(config)
    choose_cluster(config)
    ray.init(**OmegaConf.to_container(config.ray_kwargs.ray_init, resolve=True))
    prefixes = json.loads((folder / "prefixes.json").read_text())
    model = ValueModel(folder / "model", max_model_len=128, dtype="float32", memory=0.1, eager=True)
    servers = start_value_servers(model, [Device(ray.get_runtime_context().get_node_id())] * 2)
    found = asyncio.run(values(servers, prefixes))
    again = asyncio.run(values(servers, prefixes[:3]))
    for server in servers:
        ray.kill(server)
    lost = asyncio.run(values(servers, prefixes[:3]))
    said = {"values": found, "again": again, "lost": [type(error).__name__ for error in lost]}
    (folder / "values.json").write_text(json.dumps(said))
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
