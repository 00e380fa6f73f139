"""What a rollout engine keeps of a sequence: the keys and values of every layer of attention, in bfloat16."""

from __future__ import annotations

import torch
from transformers import PretrainedConfig

from fpa_verl.errors import ConfigError

# Names of layers that look at all tokens, and of those that look back some: with the key that says how many.
FULL = ("full_attention", "attention")
WINDOWS = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
# By these a configuration says that its layers differ in their heads.
UNEVEN = ("global_head_dim", "num_attention_heads_per_layer")


def sequence_bytes(hf_config: PretrainedConfig, model: str, tokens: float) -> float:
    """Bytes that are kept, and read for the next token, of a sequence that has so many tokens.

    Args:
        hf_config: of the model.
        model: what to call it.
        tokens: of the sequence.

    Raises:
        ConfigError: the model keeps something else.
    """
    text = hf_config.get_text_config()
    kinds = kinds_of_layers(text)
    if others := sorted(set(kinds) - {*FULL, *WINDOWS}):
        raise ConfigError(
            f"{model} has layers ({', '.join(others)}) that keep something else than the keys and values of attention: "
            "give --generation-rate"
        )
    return sum(tokens_looked_at(text, kind, tokens) for kind in kinds) * token_bytes(text, model)


def kinds_of_layers(text: PretrainedConfig) -> list[str]:
    """The kind of every layer; "attention" where the configuration makes no difference."""
    named = getattr(text, "layer_types", None) or getattr(text, "layers_block_type", None)
    return list(named or ["attention"] * text.num_hidden_layers)


def tokens_looked_at(text: PretrainedConfig, kind: str, tokens: float) -> float:
    """Of so many tokens, those that a layer of this kind looks at."""
    window = getattr(text, WINDOWS[kind], None) if kind in WINDOWS else None
    return min(tokens, window or tokens)


def token_bytes(text: PretrainedConfig, model: str) -> int:
    """Bytes of a token's keys and values in one layer.

    Raises:
        ConfigError: they cannot be told from the configuration.
    """
    if compressed := getattr(text, "kv_lora_rank", None):
        # Latent attention: one vector for all heads, and the part of the keys that is rotated.
        return int((compressed + text.qk_rope_head_dim) * torch.bfloat16.itemsize)
    heads = getattr(text, "num_attention_heads", None)
    if not heads or any(getattr(text, name, None) for name in UNEVEN):
        raise ConfigError(
            f"{model} has no heads of one size whose keys and values could be counted: give --generation-rate"
        )
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    return int(2 * heads_kept(text, heads) * size * torch.bfloat16.itemsize)


def heads_kept(text: PretrainedConfig, heads: int) -> int:
    """Heads of keys and values, of which several heads of queries may share one."""
    # Falcon's newer decoder has groups, and says so beside a key that it does not read.
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        return 1
    return getattr(text, "num_key_value_heads", None) or getattr(text, "num_kv_heads", None) or heads
