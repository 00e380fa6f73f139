"""A trainer of a test's with real servers, run as verl's own main runs one."""

from __future__ import annotations

from typing import TypeVar

import ray
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf
from verl.trainer.ppo.v1 import AgentLoopManagerTQ

from fpa_verl.integration.command.launch import choose_cluster, set_environment
from fpa_verl.integration.trainers.sampling_only import SamplingTrainer

T = TypeVar("T", bound=SamplingTrainer)


def fitted(kind: type[T], config: DictConfig) -> T:
    """The trainer when its work is done; Ray has ended by then."""
    OmegaConf.set_struct(config, False)
    set_environment(config)
    choose_cluster(config)
    OmegaConf.resolve(config)
    ray.init(**OmegaConf.to_container(config.ray_kwargs.ray_init))
    tq.init(config.transfer_queue)
    trainer = kind(config)
    trainer.init()
    trainer.fit(
        AgentLoopManagerTQ.create(
            config=config,
            llm_client=trainer.get_llm_client(),
            teacher_client=trainer.get_teacher_client(),
            reward_loop_worker_handles=trainer.get_reward_handles(),
        )
    )
    tq.close()
    ray.shutdown()
    return trainer
