"""Problem files of several makers beside one another."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from fpa_verl.integration.trainers.cache_reference import ReferenceCacher
from fpa_verl.integration.trainers.metered_sync import MeteredSyncTrainer
from fpa_verl.integration.trainers.offline import OfflineTrainer


@pytest.mark.parametrize("trainer_class", [OfflineTrainer, MeteredSyncTrainer, ReferenceCacher])
@pytest.mark.parametrize(("training", "given"), [("rollouts", "rollouts"), (["a.parquet", "b.parquet"], "a.parquet")])
def test_verl_is_given_no_two_files_to_join(monkeypatch, trainer_class, training, given):
    """Their columns may differ in type, which verl's dataset cannot bear; evaluations read them one by one."""
    seen = []
    monkeypatch.setattr(PPOTrainer, "_init_dataloader", lambda self: seen.append(list(self.config.data.val_files)))
    trainer = object.__new__(trainer_class)
    files = ["held_out.parquet", "test.parquet"]
    trainer.config = OmegaConf.create({"data": {"train_files": training, "val_files": files}})
    trainer._init_dataloader()
    assert seen == [[given]]
    assert trainer.config.data.val_files == files
