"""Stored trajectories in the place of generation: what verl's loader reads, and what answers its prompts."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig
from tensordict import TensorDict
from verl.trainer.ppo.v1 import AgentLoopManagerTQ
from verl.utils.dataset.rl_dataset import RLHFDataset

from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.config.settings import as_list, validates
from fpa_verl.integration.servers.transfer import PARTITION, put_trajectories
from fpa_verl.integration.trainers.loops import answers_by_loops
from fpa_verl.rollouts import RolloutDataset, Selection


def rollout_folder(files: Any) -> str | None:
    """The folder where `data.train_files` names a rollout dataset; None where it names problem files."""
    names = as_list(files)
    return names[0] if len(names) == 1 and Path(names[0]).expanduser().is_dir() else None


class StaticRollouts(RLHFDataset):
    """`data.custom_cls` of the offline recipes: items are those of the rollout dataset.

    They travel through verl's loader, whose worker processes (`data.dataloader_num_workers`) read the next
    batches while a step runs. verl builds training and validation data with one class; problem files
    stay verl's own.
    """

    def __init__(self, data_files: Any, *, config: DictConfig, **verls: Any) -> None:
        folder = rollout_folder(data_files)
        self._rollouts = RolloutDataset(folder, Selection(**config.selection)) if folder else None
        # To verl: pickled as it is, for loader processes.
        self.serialize_dataset = True
        if self._rollouts is None:
            super().__init__(data_files=data_files, config=config, **verls)

    def __len__(self) -> int:
        return super().__len__() if self._rollouts is None else len(self._rollouts)

    def __getitem__(self, item: int) -> dict[str, Any]:
        if self._rollouts is None:
            return super().__getitem__(item)
        # verl wants a `raw_prompt` and a tensor.
        return {
            "raw_prompt": [],
            "trajectories": self._rollouts.rows(item),
            "dummy_tensor": torch.zeros(1, dtype=torch.uint8),
        }


class StaticRolloutManager(AgentLoopManagerTQ):
    """verl's agent loop manager that answers training prompts with what came along with them.

    Workers are started for a validation whose answers come by agent loops, as those of our recipes do not.
    """

    @cached_property
    def _learns_from_step_values(self) -> bool:
        return facts_of(self.config).policy_loss.trains_value_head

    async def _init_agent_loop_workers(self) -> None:
        self.agent_loop_workers: list[Any] = []
        if validates(self.config) and answers_by_loops(self.config):
            await super()._init_agent_loop_workers()

    def generate_sequences(self, prompts: TensorDict) -> None:
        if "validate" in prompts:
            super().generate_sequences(prompts)
            return
        keys, rows = [], []
        uids = [str(uid) for uid in prompts["uid"]]
        for uid, trajectories in zip(uids, prompts["trajectories"], strict=True):
            keys += [f"{uid}_{session}_0" for session in range(len(trajectories))]
            rows += trajectories
        put_trajectories(keys, rows, int(prompts["global_steps"]), step_values=self._learns_from_step_values)
        tq.kv_batch_put(keys=uids, partition_id=PARTITION, tags=[{"status": "finished"}] * len(uids))
