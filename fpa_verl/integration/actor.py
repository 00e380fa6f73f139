"""The actor of an offline run: verl's worker with our loss and, beside it, the frozen reference."""

from __future__ import annotations

import socket
from typing import Any

from tensordict import TensorDict
from verl.single_controller.base.decorator import Dispatch, make_nd_compute_dataproto_dispatch_fn, register
from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.engine_workers import ActorRolloutRefWorker

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.loss import OfflineLoss, ReferencePolicy
from fpa_verl.integration.policy_losses import needs_future_policy


class OfflineActorWorker(ActorRolloutRefWorker):
    """`ActorRolloutRefWorker` that builds actor and reference in one process and trains on stored rollouts."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        policy_loss = self.config.actor.policy_loss
        if policy_loss.loss_mode not in POLICY_LOSS_REGISTRY:
            raise IntegrationError(
                f"the plugin is not loaded in the worker on {socket.gethostname()}: install fpa-verl there in the "
                "environment that Ray uses, and do not set VERL_USE_EXTERNAL_PLUGINS for its workers"
            )
        self._uses_reference = needs_future_policy(policy_loss)
        if self._uses_reference and "ref" not in self.role:
            # verl's init_model goes by substrings of the role; "actor_ref" and "actor_rollout_ref"
            # build the reference with verl's own code, without a second worker group.
            self.role += "_ref"
        super().init_model()
        reference = None
        if self._uses_reference:
            if self.ref is None:
                raise IntegrationError(
                    "verl's worker built no reference model: fpa_verl/integration/actor.py must follow it"
                )
            reference = ReferencePolicy(self.ref.engine)
        self.actor.set_loss_fn(OfflineLoss(omega_conf_to_dataclass(self.config.actor), reference))

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def update_actor(self, data: TensorDict) -> Any:
        """One update by verl, with the logits handed to the loss first and scored at their own temperature."""
        tu.assign_non_tensor(
            data,
            distillation_use_topk=self._uses_reference,
            temperature=self.config.actor.policy_loss.scoring_temperature,
        )
        return super().update_actor(data)
