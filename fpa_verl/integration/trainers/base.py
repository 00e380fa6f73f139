"""Trainers of ours count as synchronous ones, and end when a process that they wait for is dead."""

from __future__ import annotations

from typing import Any

import ray
from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from fpa_verl.integration.safety.failures import first_cause
from fpa_verl.integration.safety.watchdog import Watchdog, first_dead


class Synchronous(PPOTrainer):
    """Base of every trainer here, each registered under a name of its own.

    verl sets `trainer_mode` to that name and compares it with "sync" in several places; all of ours
    alternate generation and training as "sync" does, so the attribute says so whatever is set.
    """

    trainer_mode = property(lambda self: "sync", lambda self, registered_name: None)

    def fit(self, agent_loop_manager: AgentLoopManager) -> None:
        """Do the whole work, watched.

        Raises:
            IntegrationError: a process of the run has died; which one.
        """
        servers = self.llm_server_manager.get_addresses() if self.llm_server_manager else []
        actors = [
            *getattr(agent_loop_manager, "agent_loop_workers", []),
            *getattr(self.reward_loop_manager, "reward_loop_workers", []),
        ]
        with Watchdog(servers, actors, self._let_nobody_wait) as self.watchdog:
            try:
                self.work(agent_loop_manager)
            except Exception as error:
                cause = self.watchdog.cause or self.watchdog.find_dead()
                if cause is None and first_cause(error) is None:
                    # A worker whose partner died says that a connection was closed.
                    cause = first_dead(self._training_workers)
                if cause is None:
                    raise
                raise cause from error

    def work(self, agent_loop_manager: AgentLoopManager) -> None:
        """What the trainer is for: verl's loop, unless it says otherwise."""
        super().fit(agent_loop_manager)

    def _let_nobody_wait(self) -> None:
        """End the training workers: one may be waiting for the dead, and the trainer for it."""
        for worker in self._training_workers:
            ray.kill(worker)

    @property
    def _training_workers(self) -> list[Any]:
        return list(getattr(getattr(self, "actor_rollout_wg", None), "workers", []))

    def _build_replay_buffer(self) -> ReplayBuffer:
        buffer = super()._build_replay_buffer()
        poll = buffer._wait_for_next_poll

        def watched_poll(*args: Any) -> float:
            self.watchdog.require_alive()
            return poll(*args)

        # verl polls for responses without end.
        buffer._wait_for_next_poll = watched_poll
        return buffer
