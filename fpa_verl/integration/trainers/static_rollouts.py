"""Stored trajectories in the place of generation: what verl's loader reads, and what answers its prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig
from tensordict import TensorDict
from torch.utils.data import Dataset
from verl.trainer.ppo.v1 import AgentLoopManagerTQ
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.ray_utils import auto_await

from fpa_verl.integration.config.settings import as_list, validates
from fpa_verl.integration.servers.transfer import PARTITION, put_trajectories
from fpa_verl.rollouts import RolloutDataset, Selection


def rollout_folder(files: Any) -> str | None:
    """The folder where `data.train_files` names a rollout dataset; None where it names problem files."""
    names = as_list(files)
    return names[0] if len(names) == 1 and Path(names[0]).expanduser().is_dir() else None


class StaticRollouts(Dataset):
    """`data.custom_cls` of the offline recipes: items are those of the rollout dataset.

    They travel through verl's loader, whose worker processes (`data.dataloader_num_workers`) read the next
    batches while a step runs. verl builds training and validation data with one class; problem files
    stay verl's own.
    """

    def __new__(cls, data_files: Any, **kwargs: Any) -> Any:
        if rollout_folder(data_files) is None:
            return RLHFDataset(data_files=data_files, **kwargs)
        return super().__new__(cls)

    def __init__(self, data_files: Any, config: DictConfig, **_: Any) -> None:
        folder = rollout_folder(data_files)
        assert folder is not None
        self._rollouts = RolloutDataset(folder, Selection(**config.selection))

    def __len__(self) -> int:
        return len(self._rollouts)

    def __getitem__(self, item: int) -> dict[str, Any]:
        # verl wants a `raw_prompt` and a tensor.
        return {
            "raw_prompt": [],
            "trajectories": self._rollouts.rows(item),
            "dummy_tensor": torch.zeros(1, dtype=torch.uint8),
        }


class StaticRolloutManager(AgentLoopManagerTQ):
    """verl's agent loop manager that answers training prompts with what came along with them.

    Validation goes to verl's own agent loop, so that offline and online runs are validated alike;
    without validation no agent loop worker is started.
    """

    @classmethod
    @auto_await
    async def create(cls, *args: Any, **kwargs: Any) -> StaticRolloutManager:
        instance = cls(*args, **kwargs)
        if validates(instance.config):
            await instance._init_agent_loop_workers()
        return instance

    def generate_sequences(self, prompts: TensorDict) -> None:
        if "validate" in prompts:
            super().generate_sequences(prompts)
            return
        keys, rows = [], []
        uids = [str(uid) for uid in prompts["uid"]]
        for uid, trajectories in zip(uids, prompts["trajectories"], strict=True):
            keys += [f"{uid}_{session}_0" for session in range(len(trajectories))]
            rows += trajectories
        put_trajectories(keys, rows, int(prompts["global_steps"]))
        tq.kv_batch_put(keys=uids, partition_id=PARTITION, tags=[{"status": "finished"}] * len(uids))
