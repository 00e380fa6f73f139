"""The actor of an offline run: verl's worker with our loss and, beside it, the frozen reference."""

from __future__ import annotations

import socket
from typing import Any

from tensordict import TensorDict
from verl.single_controller.base.decorator import Dispatch, make_nd_compute_dataproto_dispatch_fn, register
from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.export import ExportingActorWorker
from fpa_verl.integration.loss import LogRatios, OfflineLoss, ReferencePolicy
from fpa_verl.objectives import Needs


class OfflineActorWorker(ExportingActorWorker):
    """verl's worker with actor and, where the objective asks for it, reference in one process."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        policy_loss = self.config.actor.policy_loss
        if policy_loss.loss_mode not in POLICY_LOSS_REGISTRY:
            raise IntegrationError(
                f"the plugin is not loaded in the worker on {socket.gethostname()}: install fpa-verl there in the "
                "environment that Ray uses, and do not set VERL_USE_EXTERNAL_PLUGINS for its workers"
            )
        actor_config = omega_conf_to_dataclass(self.config.actor)
        self._policy_loss = actor_config.policy_loss
        if self._policy_loss.needs and "ref" not in self.role:
            # verl's init_model goes by substrings of the role; "actor_ref" and "actor_rollout_ref"
            # build the reference with verl's own code, without a second worker group.
            self.role += "_ref"
        super().init_model()
        self._reference: ReferencePolicy | None = None
        if self._policy_loss.needs:
            if self.ref is None:
                raise IntegrationError(
                    "verl's worker built no reference model: fpa_verl/integration/actor.py must follow it"
                )
            self._reference = ReferencePolicy(self.ref.engine)
        self.actor.set_loss_fn(OfflineLoss(actor_config, self._reference))

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def update_actor(self, data: TensorDict) -> Any:
        """One update by verl, with the logits handed to the loss first and scored at their own temperature."""
        tu.assign_non_tensor(
            data,
            distillation_use_topk=self._reference is not None,
            temperature=self._policy_loss.scoring_temperature,
            # verl keeps this many neighbours in one micro-batch.
            force_group_size=self._policy_loss.rows_per_item,
        )
        if Needs.REFERENCE_POINT in self._policy_loss.needs:
            tu.assign_non_tensor(data, reference_point=self._reference_point(data))
        return super().update_actor(data)

    def _reference_point(self, data: TensorDict) -> float:
        """z0 of the global batch: one more forward of policy and reference, before any gradient."""
        assert self._reference is not None
        log_ratios, loss = LogRatios(self._reference), self.actor.loss_fn
        self.actor.set_loss_fn(log_ratios)
        try:
            self.actor.infer_batch(data.clone(recurse=False))
        finally:
            self.actor.set_loss_fn(loss)
        return log_ratios.reference_point(self.actor.engine.get_data_parallel_group())
