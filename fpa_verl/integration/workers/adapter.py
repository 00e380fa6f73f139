"""LoRA: of each adapted layer the policy has W + (alpha / r) B A, and the reference W, in one engine.

W is frozen, A and B are trained, and B begins at zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch.distributed.tensor import DTensor
from verl.utils.device import get_device_id, get_device_name
from verl.utils.fsdp_utils import normalize_peft_param_name
from verl.utils.model import convert_weight_keys
from verl.workers.engine.base import BaseEngine

from fpa_verl.integration.config.settings import adapter_of_an_end

# What peft calls the only adapter of a model, and verl looks it up as.
ADAPTER = "default"


def require_inner_adapter(model: Any) -> None:
    """Refuse an adapter of the embeddings or the head: verl's merging leaves them out, and a tied one would be in both.

    Raises:
        ConfigError: there is one; of which module.
    """
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if found := [name for name, module in model.named_modules() if isinstance(module, LoraLayer) and module in ends]:
        raise adapter_of_an_end(found[0])


@contextmanager
def without_adapter(engine: BaseEngine) -> Iterator[None]:
    """The base model, in the midst of a pass of the policy that is made of it.

    verl's `eval_mode` would end the mode that the pass is in, and take an offloaded model off the device.
    """
    module = engine.module
    trains = module.training
    module.eval()
    try:
        with engine.disable_adapter():
            yield
    finally:
        module.train(trains)


@torch.no_grad()
def merged(engine: BaseEngine) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and whole weights of the policy as an ordinary model, in the engine's dtype; the engine's own stay apart.

    verl's merging, which serves the rollout engine with model.lora.merge=true, rounds to bfloat16. All ranks are to
    take part.
    """
    offloaded = engine.is_param_offload_enabled
    if offloaded:
        engine.to(get_device_name(), model=True, optimizer=False, grad=False)
    model, device = engine.module, get_device_id()
    weights: dict[str, Any] = model.state_dict()
    adapted: dict[str, Any] = {
        f"{name}.base_layer.weight": layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)
    }
    for name, weight in weights.items():
        policy = weight + adapted[name].get_delta_weight(ADAPTER) if name in adapted else weight
        placed: Any = policy.to(device)
        whole = placed.full_tensor() if isinstance(placed, DTensor) else placed
        yield from convert_weight_keys(normalize_peft_param_name({name: whole}), model).items()
    if offloaded:
        engine.to("cpu", model=True, optimizer=False, grad=False)
