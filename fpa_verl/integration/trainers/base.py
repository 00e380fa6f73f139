"""What every trainer here is: synchronous to verl, and at an end when a process that it waits for is dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import ray
from omegaconf import DictConfig, open_dict
from verl.experimental.agent_loop import AgentLoopManager
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.workers.engine_workers import ActorRolloutRefWorker

from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.config.settings import as_list
from fpa_verl.integration.safety.failures import first_cause
from fpa_verl.integration.safety.watchdog import Watchdog, first_dead
from fpa_verl.integration.say import say
from fpa_verl.integration.servers.agent_loops import AgentLoops
from fpa_verl.integration.servers.client import RolloutClient, Servers
from fpa_verl.integration.servers.direct import DirectServers, why_agent_loops
from fpa_verl.integration.servers.prompts import Prompts
from fpa_verl.integration.servers.weights import ServerWeights
from fpa_verl.integration.workers.export import ExportingActorWorker
from fpa_verl.rollouts.problems import Problem


class WatchedTrainer(PPOTrainer):
    """Base of every trainer here, each registered under a name of its own.

    verl sets `trainer_mode` to that name and compares it with "sync" in several places; all of ours
    alternate generation and training as "sync" does, so the attribute says so whatever is set.
    """

    # In the place of verl's worker, but for a critic.
    worker_class: ClassVar[type[ActorRolloutRefWorker]] = ExportingActorWorker

    # The trainer's, once it has asked for them.
    _servers: Servers | None = None

    trainer_mode = property(lambda self: "sync", lambda self, registered_name: None)

    def __init__(self, config: DictConfig) -> None:
        self.facts = facts_of(config)
        with open_dict(config.data):
            # What verl's agent loops render with, those of another machine included.
            config.data.apply_chat_template_kwargs = dict(self.facts.chat.arguments)
        with open_dict(config.actor_rollout_ref.model):
            if self.facts.chat.template != self.facts.tokenizer.chat_template:
                config.actor_rollout_ref.model.custom_chat_template = self.facts.chat.template
        super().__init__(config)

    @property
    def starts_servers(self) -> bool:
        """Whether there is a rollout engine beside the training engine."""
        return True

    @property
    def _enable_hybrid_replicas(self) -> bool:
        """The same to verl, which asks once the training workers are there, right before it starts the engine."""
        if self.starts_servers and self._training_workers:
            say("starting vLLM")
        return self.starts_servers

    def _init_dataloader(self) -> None:
        """Verl makes a dataset of the validation files, which nobody looks at here: one that is there anyway will do.

        It joins them, and cannot where their columns differ in type, as those of pandas and of others do; and it can
        do nothing with a file without problems.
        """
        files = self.config.data.val_files
        self.config.data.val_files = as_list(self.config.data.train_files)[:1]
        try:
            super()._init_dataloader()
        finally:
            self.config.data.val_files = files

    def _init_resource_pool_mgr(self) -> None:
        say("loading the model")
        super()._init_resource_pool_mgr()
        for role in self.role_worker_mapping:
            if role is not Role.Critic:
                self.role_worker_mapping[role] = ray.remote(self.worker_class)

    def fit(self, agent_loop_manager: AgentLoopManager) -> None:
        """Do the whole work, watched.

        Raises:
            IntegrationError: a process of the run has died; which one.
        """
        servers = self.llm_server_manager.get_addresses() if self.llm_server_manager else []
        actors = [*agent_loop_manager.agent_loop_workers, *(self.get_reward_handles() or ())]
        with Watchdog(servers, actors, self._let_nobody_wait) as watchdog:
            self.replay_buffer.watchdog = watchdog
            try:
                self.work(agent_loop_manager)
            except Exception as error:
                cause = watchdog.cause or watchdog.find_dead()
                if cause is None and first_cause(error) is None:
                    # A worker whose partner died says that a connection was closed.
                    cause = first_dead(self._training_workers)
                if cause is None:
                    raise
                raise cause from error

    def work(self, agent_loop_manager: AgentLoopManager) -> None:
        """What the trainer is for: verl's loop, unless it says otherwise."""
        super().fit(agent_loop_manager)

    def client(self, agent_loop_manager: AgentLoopManager, last_answered: Problem | None = None) -> RolloutClient:
        """A client of the trainer's servers."""
        return RolloutClient(self.servers(agent_loop_manager), self.config, self.tokenizer, last_answered)

    def servers(self, agent_loop_manager: AgentLoopManager) -> Servers:
        """The trainer's servers, asked directly where nothing but an agent loop would do."""
        if self._servers is None:
            self._servers = self._find_servers(agent_loop_manager)
        return self._servers

    def _find_servers(self, agent_loop_manager: AgentLoopManager) -> Servers:
        handles = [replica.server_handle for replica in self.llm_server_manager.get_replicas()]
        weights = ServerWeights(handles, self.facts.model_path)
        if why := why_agent_loops(self.config, self.processor):
            print(f"answers come by verl's agent loops: {why}")
            return AgentLoops(agent_loop_manager, self.replay_buffer, weights)
        scorers = self.get_reward_handles()
        # They begin when verl makes them, and import for seconds, which is no part of the time that answers take.
        ray.get([one.__ray_ready__.remote() for one in (*scorers, self.llm_server_manager.global_load_balancer)])
        return DirectServers(
            self.config,
            handles,
            scorers,
            Prompts(self.config, self.tokenizer),
            weights,
            self._require_alive,
        )

    def _require_alive(self) -> None:
        if self.replay_buffer.watchdog is not None:
            self.replay_buffer.watchdog.require_alive()

    def _let_nobody_wait(self) -> None:
        """End the training workers: one may be waiting for the dead, and the trainer for it."""
        for worker in self._training_workers:
            ray.kill(worker)

    @property
    def _training_workers(self) -> Sequence[Any]:
        """None in a trainer without a training engine, or before there is one."""
        workers = getattr(self, "actor_rollout_wg", None)
        return list(workers.workers) if workers is not None else []
