"""Trainers of ours count as synchronous ones."""

from __future__ import annotations

from verl.trainer.ppo.v1.trainer_base import PPOTrainer


class Synchronous(PPOTrainer):
    """Base of every trainer here, each registered under a name of its own.

    verl sets `trainer_mode` to that name and compares it with "sync" in several places; all of ours
    alternate generation and training as "sync" does, so the attribute says so whatever is set.
    """

    trainer_mode = property(lambda self: "sync", lambda self, registered_name: None)
