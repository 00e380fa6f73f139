"""Configurations of models: from a folder, a hub, or, of the recipes' own, from here."""

from __future__ import annotations

import copy
from typing import Any

from transformers import AutoConfig, LlamaConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.weightless import without_weights

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
# Where a configuration says of what kind its layers are, and kinds that take the same: a window is no matter of memory.
KINDS = ("layer_types", "layers_block_type")
ATTENTION = {"full_attention", "sliding_attention"}
# The least in which FSDP gathers a layer while another is at work, in both directions.
DEPTHS = (2, 3)


def configuration(model: str) -> PretrainedConfig:
    """A model's configuration.

    Args:
        model: a folder or a Hugging Face name.

    Raises:
        ConfigError: there is none.
    """
    if model in KNOWN:
        kind, shapes = KNOWN[model]
        return kind(**shapes)
    try:
        return AutoConfig.from_pretrained(model)
    except Exception as error:  # of a damaged file, transformers says so in ways of its own
        raise ConfigError(
            f"no configuration of '{model}' ({first_line(error)}): give --model FOLDER with a config.json, a "
            f"Hugging Face name, or one of {', '.join(KNOWN)}, which need no hub"
        ) from error


def reckonable(model: str) -> PretrainedConfig:
    """The configuration of a model whose memory can be reckoned.

    Raises:
        ConfigError: there is none, or it is of another kind.
    """
    found = configuration(model)
    if has_experts(found):
        raise ConfigError(f"{model} chooses experts token by token, and its memory cannot be told from shapes alone")
    if found.get_text_config() is not found:
        raise ConfigError(f"{model} is more than a language model, and its memory is not reckoned here")
    require_equal_layers(found, model)
    return found


def require_equal_layers(hf_config: PretrainedConfig, model: str) -> None:
    """Refuse a model whose depth is not told from `DEPTHS` of its layers.

    Raises:
        ConfigError: saying what its layers are.
    """
    kinds = {str(kind) for name in KINDS for kind in getattr(hf_config, name, None) or ()}
    if others := sorted(kinds - ATTENTION):
        raise ConfigError(f"{model} has layers of the kind {', '.join(others)}, whose memory is not reckoned here")
    layers, (small, large) = hf_config.num_hidden_layers, DEPTHS
    if layers <= large:
        return
    try:
        few, more = (_parameters(with_layers(hf_config, depth)) for depth in DEPTHS)
    except Exception as error:  # of a configuration that says its depth in a way of its own
        raise ConfigError(
            f"{model}: no {hf_config.model_type} of {large} layers can be made of its configuration "
            f"({first_line(error)}), and its memory is not reckoned here"
        ) from error
    if few + (layers - small) * (more - few) // (large - small) != _parameters(hf_config):
        raise ConfigError(f"{model} has layers of several sizes, and its memory is not reckoned here")


def has_experts(hf_config: PretrainedConfig) -> bool:
    """Whether a token goes through some of the weights alone."""
    text = hf_config.get_text_config()
    # DBRX says it of its feed-forward layers.
    layers = getattr(text, "ffn_config", None)
    return any(getattr(text, name, None) for name in EXPERTS) or bool(getattr(layers, "moe_num_experts", None))


def first_line(error: Exception) -> str:
    """What an error says first, without its full stop; after a colon the next line as well, which has the reason."""
    lines = str(error).splitlines() or [type(error).__name__]
    said = lines.pop(0).strip()
    while said.endswith(":") and lines:
        said = f"{said} {lines.pop(0).strip()}"
    return said.rstrip(".")


def with_layers(hf_config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The same with so many layers."""
    shorter = copy.deepcopy(hf_config)
    shorter.num_hidden_layers = layers
    if getattr(shorter, "layer_types", None):
        shorter.layer_types = shorter.layer_types[:layers]
    return shorter


def parameters_in(hf_config: PretrainedConfig, model: str) -> int:
    """How many a model with this configuration has, those of all experts included.

    Raises:
        ConfigError: they cannot be counted.
    """
    try:
        return _parameters(hf_config)
    except Exception as error:  # what is no language model, a class of transformers refuses in its own way
        raise ConfigError(f"{model}: no parameters counted ({first_line(error)}): give --parameters") from error


def _parameters(hf_config: PretrainedConfig) -> int:
    return sum(one.numel() for one in without_weights(hf_config).parameters())
