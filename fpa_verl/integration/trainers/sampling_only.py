"""Base of the trainers that sample and score and train nothing: verl's rollout servers and reward loop alone."""

from __future__ import annotations

from verl.experimental.reward_loop import RewardLoopManager
from verl.workers.rollout.llm_server import LLMServerManager

from fpa_verl.integration.say import say
from fpa_verl.integration.trainers.base import WatchedTrainer


class SamplingTrainer(WatchedTrainer):
    """Starts servers and reward loop; nothing shares the devices with them."""

    def _setup(self) -> None:
        self._init_tokenizer()
        self._prepare()
        say("starting vLLM, which loads the model")
        self.llm_server_manager = LLMServerManager.create(config=self.config)
        self.reward_loop_manager = RewardLoopManager(config=self.config)
        self.teacher_model_manager = None

    def _prepare(self) -> None:
        """What the trainer needs before servers start."""
        raise NotImplementedError

    @property
    def devices(self) -> int:
        rollout = self.config.actor_rollout_ref.rollout
        return int(rollout.n_gpus_per_node * rollout.nnodes)

    def on_sample_end(self) -> None:
        """The servers keep their weights."""

    def on_step_end(self) -> None:
        """There are no steps."""
