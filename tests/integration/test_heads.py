"""Models whose logits are more than hidden states times their head are refused where they are made again from these."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fpa_verl.demo.model import character_tokenizer
from fpa_verl.errors import ConfigError
from fpa_verl.integration.workers.heads import require_plain_head, require_same_logits
from fpa_verl.objectives import SelectedRows
from tests.integration.stepping import batch, cached, update, worker

TOKENIZER = character_tokenizer()
SIZE = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": TOKENIZER.pad_token_id,
    "eos_token_id": TOKENIZER.eos_token_id,
    "bos_token_id": TOKENIZER.bos_token_id,
    "initializer_range": 0.3,
}
GROUPED = {**SIZE, "num_key_value_heads": 2}
MORE = {
    "granite": (GraniteForCausalLM, GraniteConfig(**GROUPED, logits_scaling=4.0), "logits_scaling=4"),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**GROUPED, head_dim=16, final_logit_softcapping=5.0), "capping=5"),
    "phi": (PhiForCausalLM, PhiConfig(**SIZE), "a bias of its head"),
    "cohere": (CohereForCausalLM, CohereConfig(**GROUPED, logit_scale=0.0625), "logit_scale=0.0625"),
}
PLAIN = {
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**GROUPED, head_dim=16)),
    "llama": (LlamaForCausalLM, LlamaConfig(**GROUPED)),
    "granite, scaled by 1": (GraniteForCausalLM, GraniteConfig(**GROUPED, logits_scaling=1.0)),
    "gemma2, without a cap": (
        Gemma2ForCausalLM,
        Gemma2Config(**GROUPED, head_dim=16, final_logit_softcapping=None),
    ),
}


def made(model_class, config, dtype=torch.float32):
    torch.manual_seed(0)
    model = model_class(config).eval().to(dtype)
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None:
        torch.nn.init.normal_(bias, std=1.0)
    return model


def compare(model, temperature=0.7):
    """The model's own logits against those made again from what goes into its head."""
    kept = []
    model.get_output_embeddings().register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].detach()))
    with torch.no_grad():
        logits = model(torch.randint(3, SIZE["vocab_size"], (1, 40))).logits[0] / temperature
    require_same_logits(model, SelectedRows(logits, torch.arange(40)), kept[0][0], temperature)


@pytest.mark.parametrize("name", MORE)
def test_what_is_known_to_do_more_is_refused_by_name(name):
    model_class, config, why = MORE[name]
    with pytest.raises(ConfigError) as error:
        require_plain_head(made(model_class, config))
    message = str(error.value)
    assert f"the logits of {model_class.__name__} are not its last hidden states times its head" in message
    assert why in message
    assert "take reference.source=topk, or forward" in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MORE)
def test_logits_that_are_others_are_seen_whatever_made_them(name, dtype):
    model_class, config, _ = MORE[name]
    with pytest.raises(ConfigError, match="those made again are up to"):
        compare(made(model_class, config, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_heads_pass_both(name, dtype):
    model = made(*PLAIN[name], dtype)
    require_plain_head(model)
    compare(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [0.95, 0.98, 1.02, 1.05, 1.1])
def test_a_factor_that_has_no_name_is_seen(factor, dtype):
    model = made(*PLAIN["qwen3"], dtype)
    model.get_output_embeddings().register_forward_hook(lambda _, __, logits: logits * factor)
    require_plain_head(model)
    with pytest.raises(ConfigError, match="% on the whole"):
        compare(model)


def test_logits_that_are_not_numbers_are_not_the_same():
    model = made(*PLAIN["qwen3"])
    with torch.no_grad():
        model.get_output_embeddings().weight[5] = float("nan")
    with pytest.raises(ConfigError, match="up to nan apart"):
        compare(model)


@pytest.mark.usefixtures("one_process")
def test_a_cache_of_such_a_model_is_refused_and_forward_works(chained_additions, tmp_path):
    model = made(*MORE["granite"][:2])
    model.save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError, match="logits_scaling=4"):
        cached(tmp_path / "model", chained_additions, "hidden", 0, 0, tmp_path / "cache")
    step = update(worker(tmp_path / "model", "fpa_offline"), batch(chained_additions)[1])
    assert step["wrong/log_prob_change"] == pytest.approx(0.0, abs=1e-3)
