"""Trainers whose actor runs in a worker class of ours."""

from __future__ import annotations

from typing import ClassVar

from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.workers.engine_workers import ActorRolloutRefWorker

from fpa_verl.integration.workers.export import ExportingActorWorker


class OwnWorkers(PPOTrainer):
    """Mixin before a verl trainer: `worker_class` in the place of verl's worker, but for a critic."""

    worker_class: ClassVar[type[ActorRolloutRefWorker]] = ExportingActorWorker

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        import ray

        for role in self.role_worker_mapping:
            if role is not Role.Critic:
                self.role_worker_mapping[role] = ray.remote(self.worker_class)
