"""verl's agent loops, where there is work for them: their workers take seconds to start and a gigabyte each."""

from __future__ import annotations

from typing import Any

import transfer_queue as tq
from omegaconf import DictConfig
from tensordict import TensorDict
from verl.trainer.ppo.v1 import AgentLoopManagerTQ
from verl.utils.config import omega_conf_to_dataclass

from fpa_verl.errors import ConfigError
from fpa_verl.integration.servers.client import SamplingRequest, Servers, nobody
from fpa_verl.integration.servers.direct import why_agent_loops
from fpa_verl.integration.servers.transfer import PARTITION, put_outputs
from fpa_verl.rollouts.problems import as_problem

# Columns of a problem file by which verl's agent loops do each row otherwise.
ROWS_OWN = ("agent_name", "__rollout_n__", "__do_sample__")


class LoopsWhereNeeded(AgentLoopManagerTQ):
    """`agent_loop_manager_class` of the recipes: no workers, and no loops, where servers may be asked without them."""

    # Who answers training prompts in the place of agent loops; set by the trainer of those.
    servers: Servers | None = None

    async def _init_agent_loop_workers(self) -> None:
        self.agent_loop_workers: list[Any] = []
        if answers_by_loops(self.config):
            await super()._init_agent_loop_workers()

    def generate_sequences(self, prompts: TensorDict) -> None:
        """Answer training prompts, and leave them where verl's replay buffer looks for them, with verl's words.

        Without agent loops the answers are there when this returns.
        """
        if self.agent_loop_workers:
            super().generate_sequences(prompts)
            return
        assert self.servers is not None
        rows = rows_of(prompts)
        step = int(prompts["global_steps"])
        problems = [as_problem({**row, "prompt": row["raw_prompt"]}, str(row["uid"])) for row in rows]
        request = SamplingRequest(n=int(self.config.actor_rollout_ref.rollout.n), step=step)
        outputs = self.servers.answer(problems, request, [0] * len(rows), nobody)
        put_outputs(rows, outputs, step)
        answered = {output.place for output in outputs}
        tags = [{"status": "finished" if place in answered else "failure"} for place in range(len(rows))]
        tq.kv_batch_put(keys=[row["uid"] for row in rows], partition_id=PARTITION, tags=tags)


def rows_of(prompts: TensorDict) -> list[dict[str, Any]]:
    """What verl's loader made of each problem.

    Raises:
        ConfigError: one of its columns is for agent loops.
    """
    for name in ROWS_OWN:
        if name in prompts:
            raise ConfigError(
                f"data.train_files: column {name} says how verl's agent loops are to do each problem, and this recipe "
                "does without them: leave it out, or set actor_rollout_ref.rollout.agent.agent_loop_manager_class=null"
            )
    return [prompt.to_dict() for prompt in prompts]


def answers_by_loops(config: DictConfig) -> bool:
    """Whether answers come by agent loops, or without them."""
    return bool(why_agent_loops(config, omega_conf_to_dataclass(config.actor_rollout_ref.model).processor))
