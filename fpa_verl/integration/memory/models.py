"""Configurations of models: from a folder, a hub, or, of the recipes' own, from here."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from fpa_verl.errors import ConfigError

# Of `recipes/model/`: what their config.json say of shapes. None has to be fetched to reckon with them.
KNOWN: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "Qwen/Qwen3-4B-Base": (
        Qwen3Config,
        {
            "vocab_size": 151_936,
            "hidden_size": 2_560,
            "intermediate_size": 9_728,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "tie_word_embeddings": True,
        },
    ),
    "Qwen/Qwen3-1.7B-Base": (
        Qwen3Config,
        {
            "vocab_size": 151_936,
            "hidden_size": 2_048,
            "intermediate_size": 6_144,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "tie_word_embeddings": True,
        },
    ),
    "Qwen/Qwen2.5-Math-7B": (
        Qwen2Config,
        {
            "vocab_size": 152_064,
            "hidden_size": 3_584,
            "intermediate_size": 18_944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
        },
    ),
    "meta-llama/Llama-3.2-3B-Instruct": (
        LlamaConfig,
        {
            "vocab_size": 128_256,
            "hidden_size": 3_072,
            "intermediate_size": 8_192,
            "num_hidden_layers": 28,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "tie_word_embeddings": True,
        },
    ),
}
# By which a configuration says that a token goes through some of its weights alone.
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def configuration(model: str) -> PretrainedConfig:
    """A model's configuration.

    Args:
        model: a folder or a Hugging Face name.

    Raises:
        ConfigError: there is none, or no memory can be reckoned from it.
    """
    if model in KNOWN:
        kind, shapes = KNOWN[model]
        return kind(**shapes)
    try:
        found = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no configuration of '{model}': {str(error).splitlines()[0]} Give --model FOLDER with a config.json, a "
            f"Hugging Face name, or one of {', '.join(KNOWN)}, which need no hub"
        ) from error
    text = found.get_text_config()
    if any(getattr(text, name, None) for name in EXPERTS):
        raise ConfigError(f"{model} chooses experts token by token, and its memory cannot be told from shapes alone")
    if text is not found:
        raise ConfigError(f"{model} is more than a language model, and its memory is not reckoned here")
    return found


def with_layers(hf_config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The same with so many layers."""
    shorter = copy.deepcopy(hf_config)
    shorter.num_hidden_layers = layers
    if getattr(shorter, "layer_types", None):
        shorter.layer_types = shorter.layer_types[:layers]
    return shorter


@dataclass(frozen=True)
class Sizes:
    """Of a model: its parameters, and the bytes in which a token's keys and values are kept, in bfloat16."""

    parameters: int
    token_bytes: int


def sizes_of(hf_config: PretrainedConfig) -> Sizes:
    """The sizes of a model with this configuration."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(hf_config)
    head = getattr(hf_config, "head_dim", None) or hf_config.hidden_size // hf_config.num_attention_heads
    kept = 2 * hf_config.num_hidden_layers * hf_config.num_key_value_heads * head
    return Sizes(sum(one.numel() for one in model.parameters()), kept * torch.bfloat16.itemsize)
