"""verl's FSDP2 engine with a model of shapes: all but the weights and a device is its own."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from omegaconf import DictConfig, OmegaConf
from torch.nn import functional
from transformers import PretrainedConfig
from verl.utils import torch_functional
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from fpa_verl.integration.config.settings import FLASH, attention
from fpa_verl.integration.memory import kernels
from fpa_verl.integration.memory.shapes import Shapes
from fpa_verl.integration.workers.value_head import NAME
from fpa_verl.objectives import logits
from fpa_verl.objectives.value_head import ValueHead

FORWARD, BACKWARD, OPTIMIZER = "forward", "backward", "optimizer"


@contextmanager
def one_rank(shapes: Shapes, devices: int, *, flash: bool) -> Iterator[None]:
    """This process as one of so many ranks that hold tensors of shapes, with flash-attn or without.

    torch's "fake" backend of process groups, whose collectives do nothing, is public by its name alone
    (`torch.distributed.Backend.FAKE`).
    """
    kernels.register()
    with ExitStack() as stack:
        torch.distributed.init_process_group("fake", rank=0, world_size=devices)
        stack.callback(torch.distributed.destroy_process_group)
        for owner, name, value in (
            # Its weights are where they belong already.
            (transformer_impl, "fsdp2_load_full_state_dict", _nothing),
            (torch_functional, "FLAH_ATTN_CROSS_ENTROPY_LOSS_AVAILABLE", flash),
            (torch_functional, "cross_entropy_loss", kernels.cross_entropy_loss),
            (functional, "scaled_dot_product_attention", kernels.scaled_dot_product_attention),
            # The loss is to work as on a GPU.
            (logits, "CHUNK_ELEMENTS_ON_CPU", logits.CHUNK_ELEMENTS),
        ):
            stack.enter_context(mock.patch.object(owner, name, value, create=name == "cross_entropy_loss"))
        stack.enter_context(shapes)
        yield


def _nothing(*_: Any, **__: Any) -> None:
    """Stands for what a model of shapes has no need of."""


class EngineOfShapes(FSDPEngineWithLMHead):
    """The engine of one rank.

    Args:
        shapes: what counts its memory.
        hf_config: the model's.
        model: `actor_rollout_ref.model` of a recipe.
        engine: its engine's configuration.
        optimizer: its optimizer's.
        value_head: whether the model has a value head.
    """

    def __init__(
        self,
        shapes: Shapes,
        hf_config: PretrainedConfig,
        model: DictConfig,
        engine: FSDPEngineConfig,
        optimizer: FSDPOptimizerConfig,
        *,
        value_head: bool = False,
    ) -> None:
        self._shapes, self._value_head = shapes, value_head
        asked = attention(model)
        self._attention = kernels.NAME if asked == FLASH else asked
        super().__init__(_described(model, hf_config), engine, optimizer, checkpoint_config=None)
        self._build_model_optimizer()
        # Without torch.compile, which shapes do not go through.
        self.compute_entropy_from_logits = (
            torch_functional.entropy_from_logits_with_chunking
            if engine.entropy_from_logits_with_chunking
            else torch_functional.entropy_from_logits
        )

    def _build_module(self) -> torch.nn.Module:
        from transformers import AutoModelForCausalLM

        dtype = PrecisionType.to_dtype(self.engine_config.model_dtype)
        with self._shapes.building():
            module = AutoModelForCausalLM.from_config(
                copy.deepcopy(self.model_config.hf_config), dtype=dtype, attn_implementation=self._attention
            )
            if self._value_head:
                module.add_module(NAME, ValueHead(module.config.get_text_config().hidden_size, dtype=dtype))
        if self.model_config.enable_gradient_checkpointing:
            module.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return module

    def _build_lora_module(self, module: torch.nn.Module) -> torch.nn.Module:
        # peft moves what it adds to where the model is, which is where it is, and weights without data cannot be moved.
        with mock.patch.object(torch.nn.Module, "to", lambda module, *_, **__: module):
            return super()._build_lora_module(module)

    def _build_optimizer(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        optimizer = super()._build_optimizer(module)
        for group in optimizer.param_groups:
            # torch's default on a GPU, which takes memory for all weights at once.
            if group.get("foreach") is None and not group.get("fused"):
                group["foreach"] = True
        return optimizer

    def make_moments(self) -> None:
        """What the first update leaves behind."""
        for parameter in self.module.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
        self.optimizer_step()
        self.optimizer_zero_grad()

    def forward_step(self, micro_batch: Any, loss_function: Callable[..., Any], forward_only: bool) -> Any:
        with self._shapes.phase(FORWARD):
            return super().forward_step(micro_batch, loss_function, forward_only)

    def forward_backward_batch(self, data: Any, loss_function: Callable[..., Any], forward_only: bool = False) -> Any:
        with self._shapes.phase(BACKWARD):
            return super().forward_backward_batch(data, loss_function, forward_only)

    def optimizer_step(self) -> Any:
        with self._shapes.phase(OPTIMIZER):
            return super().optimizer_step()


def _described(model: DictConfig, hf_config: PretrainedConfig) -> Any:
    """What verl's `HFModelConfig` would be, which reads a tokenizer and a configuration from disk as it is made."""
    defaults = {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in dataclasses.fields(HFModelConfig)
    }
    given = OmegaConf.to_container(model)
    assert isinstance(given, dict)
    return SimpleNamespace(
        **{**defaults, **{str(name): value for name, value in given.items()}, "hf_config": hf_config}
    )
