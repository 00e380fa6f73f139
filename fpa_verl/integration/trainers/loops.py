"""verl's agent loop workers, where there is work for them: each takes seconds to start and a gigabyte."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig
from verl.trainer.ppo.v1 import AgentLoopManagerTQ
from verl.utils.config import omega_conf_to_dataclass

from fpa_verl.integration.servers.direct import why_agent_loops


class LoopsWhereNeeded(AgentLoopManagerTQ):
    """`agent_loop_manager_class` of the recipes that do nothing else than ask for answers."""

    async def _init_agent_loop_workers(self) -> None:
        self.agent_loop_workers: list[Any] = []
        if answers_by_loops(self.config):
            await super()._init_agent_loop_workers()


def answers_by_loops(config: DictConfig) -> bool:
    """Whether answers of collections and evaluations come by agent loops, or without them."""
    return bool(why_agent_loops(config, omega_conf_to_dataclass(config.actor_rollout_ref.model).processor))
