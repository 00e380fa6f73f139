"""The actor of an offline run: verl's worker with our loss and, beside it, the frozen reference."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch.distributed.tensor import DTensor
from verl.single_controller.base.decorator import Dispatch, make_nd_compute_dataproto_dispatch_fn, register
from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.config import TrainingWorkerConfig
from verl.workers.engine_workers import TrainingWorker

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.config.settings import compute_dtype, trains_adapter
from fpa_verl.integration.workers.export import ExportingActorWorker
from fpa_verl.integration.workers.foresight import (
    LOOK,
    LogitsRecorder,
    Look,
    foreseen,
    foresight_metrics,
    merged,
    write_look,
)
from fpa_verl.integration.workers.gradients import gradient_norm
from fpa_verl.integration.workers.heads import require_plain_head
from fpa_verl.integration.workers.loss import REFERENCE_POINT, LogRatios, OfflineLoss
from fpa_verl.integration.workers.mixing import PROBE, Probe, ScoreRecorder, estimate_of, gathered, mixing_metrics
from fpa_verl.integration.workers.reference import (
    CachedReference,
    ForwardReference,
    Recorder,
    Reference,
    take_buffers,
)
from fpa_verl.integration.workers.value_head import (
    ENDS_PER_PAIR,
    StateValues,
    ends_per_pair,
    head_of,
    worker_with_head,
)
from fpa_verl.objectives import Needs
from fpa_verl.objectives.step_values import StepValuePreference
from fpa_verl.rollouts.fingerprint import local_model_dir
from fpa_verl.rollouts.reference_cache import ReferenceCache, part_name, write_part
from fpa_verl.runs.metrics import SIDES, dynamics_metric

# Key of a batch whose reference is to be cached.
CACHE_REQUEST = "cache_request"


@dataclass(frozen=True)
class CacheRequest:
    """What a pass of `cache_reference` writes.

    Attributes:
        folder: the cache's.
        batch: number of the batch, which names the part.
        source: the cache's.
        k, samples: tokens kept a position, and samples of the others, for "topk".
    """

    folder: str
    batch: int
    source: str
    k: int
    samples: int


def _worker_of_model(path: str, config: TrainingWorkerConfig) -> TrainingWorker:
    """Verl's worker with the weights of another model of the same architecture."""
    config.model_config.local_path = str(local_model_dir(path))
    return TrainingWorker(config=config)


class OfflineActorWorker(ExportingActorWorker):
    """verl's worker with actor and, where the objective asks for it, reference in one process.

    Of an actor that trains an adapter the reference is its own base model.
    """

    # Whether logits made again from hidden states were compared with those of a forward pass.
    _head_is_plain = False
    # Of the actor's value head.
    _values: StateValues | None = None

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
        needs_copy = self._policy_loss.passes_reference and not trains_adapter(self.config.model)
        if needs_copy and "ref" not in self.role:
            # verl's init_model goes by substrings of the role; "actor_ref" and "actor_rollout_ref"
            # build the reference with verl's own code, without a second worker group.
            self.role += "_ref"
        if self._policy_loss.reference_model:
            self.ref_worker_cls = partial(_worker_of_model, self._policy_loss.reference_model)
        if self._policy_loss.trains_value_head:
            self.actor_worker_cls = partial(worker_with_head, head_lr=self._policy_loss.objective.value_lr)
        super().init_model()
        self._follow_value_head()
        self._reference = self._open_reference() if self._policy_loss.needs_reference else None
        engine = self.actor.engine
        # Under Ulysses several processes have the same trajectories.
        worker = engine.get_data_parallel_rank() if engine.is_mp_src_rank_with_outputs() else None
        self._actor_config = actor_config
        self.actor.set_loss_fn(OfflineLoss(actor_config, self._reference, worker, values=self._values))

    def _follow_value_head(self) -> None:
        """Have its values noted, and its dropout drawn as the seed says."""
        head, objective = head_of(self.actor.engine), self._policy_loss.objective
        if head is None:
            return
        assert isinstance(objective, StepValuePreference)
        # What a head that is gone on with was trained with does not matter.
        head.dropout.p = objective.dropout
        self._values = StateValues(self.actor.engine.module)
        # verl seeds the generators of deterministic runs alone, and every rank drops for trajectories of its own.
        torch.manual_seed(self.config.actor.fsdp_config.seed + self.actor.engine.get_data_parallel_rank())

    def _open_reference(self) -> Reference:
        compiled = bool(self.config.actor.use_torch_compile)
        if self._policy_loss.reference != "forward":
            cache = ReferenceCache(Path(self._policy_loss.reference_cache))
            head = self._frozen_head() if cache.source == "hidden" else None
            return CachedReference(cache, head, compiled=compiled)
        if trains_adapter(self.config.model):
            return ForwardReference(self.actor.engine, adapted=True, compiled=compiled)
        if self.ref is None:
            raise IntegrationError(
                "verl's worker built no reference model: fpa_verl/integration/workers/actor.py must follow it"
            )
        take_buffers(self.ref.engine.module, self.actor.engine.module)
        return ForwardReference(self.ref.engine, compiled=compiled)

    def _frozen_head(self) -> torch.Tensor:
        """The reference's (V, d) head: the actor's own, before its first update or checkpoint."""
        model = self.actor.engine.module
        # A cache of before this was asked may be there.
        require_plain_head(model)
        weight = model.get_output_embeddings().weight
        whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
        return whole.detach().to(dtype=PrecisionType.to_dtype(compute_dtype(self.config.actor)), copy=True)

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def cache_reference(self, data: TensorDict) -> TensorDict:
        """Write what the cache keeps of the base model on these trajectories; this rank's part of the batch.

        What and where is the `CacheRequest` that the batch carries under `CACHE_REQUEST`.
        """
        request: CacheRequest = tu.get_non_tensor_data(data, key=CACHE_REQUEST, default=None)
        model = self.actor.engine.module if request.source == "hidden" else None
        if model is not None:
            require_plain_head(model)
        compare = None if self._head_is_plain else self._policy_loss.scoring_temperature
        recorder = Recorder(request.source, request.k, request.samples, model, compare)
        try:
            self._record(recorder, data, no_lora_adapter=trains_adapter(self.config.model))
        finally:
            recorder.close()
        self._head_is_plain = True
        file = Path(request.folder) / part_name(request.batch, self.actor.engine.get_data_parallel_rank())
        write_part(file, recorder.rows, recorder.lengths, recorder.arrays())
        return tu.get_tensordict({}, non_tensor_dict={"metrics": {"tokens": sum(recorder.lengths)}})

    def _record(self, recorder: Any, data: TensorDict, *, no_lora_adapter: bool = False) -> None:
        """A pass whose logits, at the temperature that they are scored at, go to the recorder, row by row."""
        tu.assign_non_tensor(
            data, distillation_use_topk=True, temperature=self._policy_loss.scoring_temperature, force_group_size=1
        )
        self._pass_with(recorder, data, no_lora_adapter=no_lora_adapter)

    def _pass_with(self, loss: Any, data: TensorDict, *, no_lora_adapter: bool = False) -> None:
        """A forward pass without gradient whose outputs go to `loss`; `no_lora_adapter` is verl's."""
        trained_with = self.actor.loss_fn
        self.actor.set_loss_fn(loss)
        batch = data.clone(recurse=False)
        tu.assign_non_tensor(batch, no_lora_adapter=no_lora_adapter)
        try:
            self.actor.infer_batch(batch)
        finally:
            self.actor.set_loss_fn(trained_with)

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def update_actor(self, data: TensorDict) -> Any:
        """One update by verl, with the logits handed to the loss first and scored at their own temperature."""
        self._prepare(data)
        return super().update_actor(data)

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def gradient_norms(self, data: TensorDict) -> TensorDict:
        """Those of right and of wrong trajectories apart, of the update that this batch would be, as metrics."""
        self._prepare(data)
        norms = {
            dynamics_metric(side, "gradient_norm"): gradient_norm(
                self.actor, OfflineLoss(self._actor_config, self._reference, side=side, values=self._values), data
            )
            for side in SIDES
        }
        return tu.get_tensordict({}, non_tensor_dict={"metrics": norms})

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def mixing_moments(self, data: TensorDict) -> TensorDict:
        """Moments of the gradients of the pairs that the batch's `Probe` names, as metrics, in every worker alike."""
        assert self._reference is not None
        probe: Probe = tu.get_non_tensor_data(data, key=PROBE, default=None)
        temperature = self._policy_loss.scoring_temperature
        recorder = ScoreRecorder(self.actor.engine.module, self._reference, probe.projections, temperature)
        try:
            self._record(recorder, data)
        finally:
            recorder.close()
        found = {row: value for part in gathered(recorder.found) for row, value in part.items()}
        return tu.get_tensordict({}, non_tensor_dict={"metrics": mixing_metrics(estimate_of(probe, found), probe)})

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def foresee(self, data: TensorDict) -> TensorDict:
        """Note the policy as the batch's `Look` says, and how it was foreseen, as metrics, in every worker alike."""
        look: Look = tu.get_non_tensor_data(data, key=LOOK, default=None)
        recorder = LogitsRecorder(look.positions)
        self._record(recorder, data)
        write_look(look, torch.distributed.get_rank(), recorder.logits)
        parts = gathered(foreseen(look, recorder))
        return tu.get_tensordict({}, non_tensor_dict={"metrics": foresight_metrics(look, merged(parts))})

    def _prepare(self, data: TensorDict) -> None:
        """What the loss wants to find in a batch."""
        tu.assign_non_tensor(
            data,
            distillation_use_topk=self._reference is not None,
            temperature=self._policy_loss.scoring_temperature,
            # verl keeps this many neighbours in one micro-batch.
            force_group_size=len(self._policy_loss.roles),
        )
        if self._values is not None:
            found = ends_per_pair(data, self.actor.engine.get_data_parallel_group())
            tu.assign_non_tensor(data, **{ENDS_PER_PAIR: found})
        if Needs.REFERENCE_POINT in self._policy_loss.needs:
            tu.assign_non_tensor(data, **{REFERENCE_POINT: self._reference_point(data)})

    def _reference_point(self, data: TensorDict) -> float:
        """z0 of the global batch: one more forward of policy and reference, before any gradient."""
        assert self._reference is not None
        log_ratios = LogRatios(self._reference)
        self._pass_with(log_ratios, data)
        mean = log_ratios.mean(self.actor.engine.get_data_parallel_group())
        assert self._policy_loss.objective is not None
        return float(self._policy_loss.objective.reference_point(mean))
