"""What one rank holds in a step of a recipe, from verl's engine and the recipe's own loss at full size."""

from __future__ import annotations

from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from transformers import PretrainedConfig
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.utils.losses import ppo_loss

from fpa_verl.integration.config.settings import FLASH, attention, compute_dtype, trains_adapter
from fpa_verl.integration.memory.data import CacheOfShapes, rank_batch
from fpa_verl.integration.memory.engine import BACKWARD, FORWARD, OPTIMIZER, EngineOfShapes, one_rank
from fpa_verl.integration.memory.fits import StepMemory
from fpa_verl.integration.memory.models import DEPTHS, with_layers
from fpa_verl.integration.memory.shapes import Shapes
from fpa_verl.integration.policy_losses import OfflinePolicyLossConfig
from fpa_verl.integration.workers.loss import OfflineLoss
from fpa_verl.integration.workers.reference import CachedReference, ForwardReference, Reference
from fpa_verl.integration.workers.value_head import StateValues
from fpa_verl.roles import SINGLE

# Tokens, or a few more, of the sequences that a micro-batch is made of.
SEQUENCE = 1_024


def step_memory(config: DictConfig, hf_config: PretrainedConfig, devices: int) -> StepMemory:
    """What a rank holds in a step of two full micro-batches.

    Every layer adds the same: a deep model is reckoned from `DEPTHS` of its layers.

    Args:
        config: a recipe's, composed: an offline one's or GRPO's.
        hf_config: the model's, as `require_equal_layers` wants it.
        devices: ranks over which FSDP divides weights, gradients and moments.
    """
    layers, (small, large) = hf_config.num_hidden_layers, DEPTHS
    if layers <= large:
        return measured(config, hf_config, devices)
    few, more = (vars(measured(config, with_layers(hf_config, depth), devices)) for depth in DEPTHS)
    return StepMemory(
        **{name: few[name] + (layers - small) * (more[name] - few[name]) // (large - small) for name in few}
    )


def measured(config: DictConfig, hf_config: PretrainedConfig, devices: int) -> StepMemory:
    """The same with all layers of the configuration, one after the other."""
    shapes, resolved = Shapes(), OmegaConf.to_container(config, resolve=True)
    with one_rank(shapes, devices, flash=attention(config.actor_rollout_ref.model) == FLASH):
        return _Measurement(shapes, OmegaConf.create(resolved), hf_config).taken()  # type: ignore[arg-type]


class _Measurement:
    def __init__(self, shapes: Shapes, config: DictConfig, hf_config: PretrainedConfig) -> None:
        self._shapes, self._worker, self._hf_config = shapes, config.actor_rollout_ref, hf_config
        self._kept = config.get("reference")
        self._limit = int(self._worker.actor.ppo_max_token_len_per_gpu)
        self._actor_config = omega_conf_to_dataclass(self._worker.actor)
        self._policy_loss = self._actor_config.policy_loss
        self._offline = isinstance(self._policy_loss, OfflinePolicyLossConfig)
        self._roles = self._policy_loss.roles if self._offline else SINGLE
        self._trains_value_head = self._offline and self._policy_loss.trains_value_head

    def taken(self) -> StepMemory:
        shapes = self._shapes
        engine = self._engine(self._worker.actor, value_head=self._trains_value_head)
        parameters = shapes.live
        loss = self._loss(engine)
        reference = shapes.live - parameters
        with engine.train_mode():
            engine.make_moments()
            static = shapes.live
        log_probs = 0 if self._offline else self._old_log_probs(engine)
        with engine.train_mode():
            shapes.peaks.clear()
            engine.train_batch(self._batch(self._limit), loss)
            gradients = shapes.live - static
        return StepMemory(
            parameters=parameters,
            reference=reference,
            moments=static - parameters - reference,
            gradients=gradients,
            log_probs=log_probs,
            forward=shapes.peaks[FORWARD],
            backward=shapes.peaks[BACKWARD],
            optimizer=shapes.peaks[OPTIMIZER],
        )

    def _engine(self, section: DictConfig, *, value_head: bool = False) -> EngineOfShapes:
        # As `ActorConfig` and verl's worker complete them.
        engine = omega_conf_to_dataclass(OmegaConf.merge(section.fsdp_config, {"strategy": section.strategy}))
        optimizer = omega_conf_to_dataclass(OmegaConf.merge(section.optim, {"total_training_steps": 1}))
        return EngineOfShapes(
            self._shapes, self._hf_config, self._worker.model, engine, optimizer, value_head=value_head
        )

    def _loss(self, actor: EngineOfShapes) -> Any:
        if not self._offline:
            return partial(ppo_loss, self._actor_config)
        reference = self._reference(actor) if self._policy_loss.needs_reference else None
        values = StateValues(actor.module) if self._trains_value_head else None
        return OfflineLoss(self._actor_config, reference, values=values)

    def _reference(self, actor: EngineOfShapes) -> Reference:
        source = self._policy_loss.reference
        if source == "forward":
            adapted = trains_adapter(self._worker.model)
            return ForwardReference(actor if adapted else self._engine(self._worker.ref), adapted=adapted)
        text, dtype = self._hf_config.get_text_config(), PrecisionType.to_dtype(compute_dtype(self._worker.actor))
        kept = self._kept
        cache: Any = CacheOfShapes(self._shapes, source, kept.k, kept.samples, text.hidden_size, dtype)
        head = self._shapes.empty((text.vocab_size, text.hidden_size), dtype) if source == "hidden" else None
        return CachedReference(cache, head)

    def _old_log_probs(self, engine: EngineOfShapes) -> int:
        """The most that verl's `_compute_old_log_prob` takes, which asks for the entropy whatever the loss is."""
        self._shapes.peaks.clear()
        data = self._batch(int(self._worker.rollout.log_prob_max_token_len_per_gpu))
        tu.assign_non_tensor(data, calculate_entropy=True, compute_loss=False)
        with engine.eval_mode():
            engine.infer_batch(data)
        return self._shapes.peaks[FORWARD]

    def _batch(self, limit: int) -> TensorDict:
        """Two full micro-batches of so many tokens."""
        count = max(1, limit // SEQUENCE)
        data = rank_batch(2 * count, limit // count, self._roles, step_values=self._trains_value_head)
        temperature = self._policy_loss.scoring_temperature if self._offline else self._worker.rollout.temperature
        tu.assign_non_tensor(
            data,
            temperature=float(temperature),
            calculate_entropy=bool(self._actor_config.calculate_entropy or self._actor_config.entropy_coeff),
            max_token_len_per_gpu=limit,
            distillation_use_topk=self._offline and self._policy_loss.needs_reference,
            force_group_size=len(self._roles),
        )
        return data
