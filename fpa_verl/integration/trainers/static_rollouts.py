"""Stored trajectories in the place of generation: the data set and the rollout worker that serves it."""

from __future__ import annotations

from functools import lru_cache
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

from fpa_verl.integration.settings import as_list, validates
from fpa_verl.integration.trainers.transfer import PARTITION, put_trajectories
from fpa_verl.rollouts import RolloutDataset, Selection


@lru_cache(maxsize=2)
def _open(folder: str, selection: Selection) -> RolloutDataset:
    return RolloutDataset(folder, selection)


def rollout_folder(files: Any) -> str | None:
    """The folder where `data.train_files` names a rollout dataset; None where it names problem files."""
    names = as_list(files)
    return names[0] if len(names) == 1 and Path(names[0]).expanduser().is_dir() else None


def open_rollouts(data_config: DictConfig) -> RolloutDataset:
    """The dataset that `data.train_files` names, read once a process."""
    selection = Selection(**data_config.selection)
    return _open(rollout_folder(data_config.train_files) or str(data_config.train_files), selection)


class StaticRollouts(Dataset):
    """`data.custom_cls` of the offline recipes: items are positions in the rollout dataset.

    verl builds training and validation data with one class. Problem files stay verl's own.
    """

    def __new__(cls, data_files: Any, **kwargs: Any) -> Any:
        if rollout_folder(data_files) is None:
            return RLHFDataset(data_files=data_files, **kwargs)
        return super().__new__(cls)

    def __init__(self, data_files: Any, config: DictConfig, **_: Any) -> None:
        self._length = len(open_rollouts(config))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, item: int) -> dict[str, Any]:
        # The trajectories themselves never travel through the loader; verl wants `raw_prompt`.
        return {"raw_prompt": [], "index": item, "dummy_tensor": torch.zeros(1, dtype=torch.uint8)}


class StaticRolloutManager(AgentLoopManagerTQ):
    """verl's agent loop manager that answers training prompts from disk.

    Validation goes to verl's own agent loop, so that offline and online runs are validated alike;
    without validation no agent loop worker is started.
    """

    @classmethod
    @auto_await
    async def create(cls, *args: Any, **kwargs: Any) -> StaticRolloutManager:
        instance = cls(*args, **kwargs)
        instance.rollouts = open_rollouts(instance.config.data)
        if validates(instance.config):
            await instance._init_agent_loop_workers()
        return instance

    def generate_sequences(self, prompts: TensorDict) -> None:
        if "validate" in prompts:
            super().generate_sequences(prompts)
            return
        keys, rows = [], []
        uids = [str(uid) for uid in prompts["uid"]]
        for uid, item in zip(uids, prompts["index"], strict=True):
            for session, row in enumerate(self.rollouts.rows(int(item))):
                keys.append(f"{uid}_{session}_0")
                rows.append(row)
        put_trajectories(keys, rows, int(prompts["global_steps"]))
        tq.kv_batch_put(keys=uids, partition_id=PARTITION, tags=[{"status": "finished"}] * len(uids))
