"""Keys and values of a sequence, against sums made by hand from what models' configurations say."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from fpa_verl.errors import ConfigError
from fpa_verl.integration.memory.kept import sequence_bytes

LATENT = {"kv_lora_rank": 512, "qk_rope_head_dim": 64}


@pytest.mark.parametrize(
    ("kind", "sizes", "a_token"),
    [
        # Keys and values, layers, heads, their size, bytes.
        ("qwen3", {"num_hidden_layers": 36, "num_key_value_heads": 8, "head_dim": 128}, 2 * 36 * 8 * 128 * 2),
        ("gpt2", {}, 2 * 12 * 12 * 64 * 2),
        # All heads of queries share one of keys: Falcon-7B, StarCoder.
        ("falcon", {"num_hidden_layers": 32, "num_attention_heads": 71, "hidden_size": 4_544}, 8_192),
        ("gpt_bigcode", {}, 2 * 12 * 1 * 64 * 2),
        # Falcon-40B has groups, beside a key that says it has not.
        (
            "falcon",
            {
                **{"num_hidden_layers": 60, "num_attention_heads": 128, "hidden_size": 8_192},
                **{"new_decoder_architecture": True, "num_kv_heads": 8},
            },
            2 * 60 * 8 * 64 * 2,
        ),
        # DeepSeek-V3, and V2-Lite.
        ("deepseek_v3", {"num_hidden_layers": 61, **LATENT}, 70_272),
        ("deepseek_v2", {"num_hidden_layers": 27, **LATENT}, 31_104),
    ],
)
def test_what_a_token_leaves(kind, sizes, a_token):
    config = AutoConfig.for_model(kind, **sizes)
    assert sequence_bytes(config, kind, 1.0) == a_token
    assert sequence_bytes(config, kind, 475.0) == 475 * a_token


def test_layers_with_a_window_look_no_further():
    config = AutoConfig.for_model(
        "gpt_oss", num_hidden_layers=4, num_key_value_heads=8, head_dim=64, sliding_window=128
    )
    assert sorted(config.layer_types) == ["full_attention"] * 2 + ["sliding_attention"] * 2
    a_layer = 2 * 8 * 64 * 2
    assert sequence_bytes(config, "m", 100.0) == 4 * 100 * a_layer
    assert sequence_bytes(config, "m", 1_000.0) == 2 * (1_000 + 128) * a_layer


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("qwen3_5_text", r"m has layers \(linear_attention\) that keep something else"),
        ("falcon_h1", r"layers \(hybrid\)"),
        ("recurrent_gemma", r"layers \(recurrent\)"),
        ("rwkv", "no heads of one size"),
        ("gemma4_text", "no heads of one size"),
    ],
)
def test_what_keeps_something_else_is_refused(kind, message):
    with pytest.raises(ConfigError, match=f"{message}.*give --generation-rate"):
        sequence_bytes(AutoConfig.for_model(kind), "m", 1.0)
