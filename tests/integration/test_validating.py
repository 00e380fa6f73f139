"""Problem files of several makers beside one another."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from fpa_verl.integration.trainers.validating import ValidatingTrainer


@pytest.mark.parametrize("files", [["a.parquet", "b.parquet"], "a.parquet"])
def test_verl_is_given_no_two_files_to_join(monkeypatch, files):
    """Their columns may differ in type, which verl's dataset cannot bear; evaluations read them one by one."""
    given = []
    monkeypatch.setattr(PPOTrainer, "_init_dataloader", lambda self: given.append(list(self.config.data.val_files)))
    trainer = object.__new__(ValidatingTrainer)
    trainer.config = OmegaConf.create({"data": {"val_files": files}})
    trainer._init_dataloader()
    assert given == [["a.parquet"]]
    assert trainer.config.data.val_files == files
