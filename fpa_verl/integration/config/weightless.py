"""A model as its configuration describes it, for whoever asks for modules, shapes or numbers alone."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel


def without_weights(config: PretrainedConfig, **more: Any) -> PreTrainedModel:
    """The model, on the device "meta"; `more` as `from_config` takes it."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, **more)
