"""Trainers of ours count as synchronous ones, and notice who died while they wait."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

# Between two looks at the processes that generate, and for their answer.
LOOK_EVERY_S = 5.0
ANSWER_WITHIN_S = 60.0


class Synchronous(PPOTrainer):
    """Base of every trainer here, each registered under a name of its own.

    verl sets `trainer_mode` to that name and compares it with "sync" in several places; all of ours
    alternate generation and training as "sync" does, so the attribute says so whatever is set.
    """

    trainer_mode = property(lambda self: "sync", lambda self, registered_name: None)
    _looked_at = 0.0

    def _build_replay_buffer(self) -> ReplayBuffer:
        buffer = super()._build_replay_buffer()
        poll = buffer._wait_for_next_poll

        def watched_poll(*args: Any) -> float:
            self._require_agent_loops()
            return poll(*args)

        # verl waits for responses without end; those who were to bring them may be dead.
        buffer._wait_for_next_poll = watched_poll
        return buffer

    def _require_agent_loops(self) -> None:
        """Raise Ray's ActorDiedError where a process that generates is gone."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        workers = getattr(self.agent_loop_manager, "agent_loop_workers", [])
        with suppress(GetTimeoutError):
            ray.get([worker.__ray_ready__.remote() for worker in workers], timeout=ANSWER_WITHIN_S)
