"""Which models may take one another's place in an engine that runs; test_direct.py has them do it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from fpa_verl.demo.model import character_tokenizer, small_qwen3
from fpa_verl.errors import ConfigError
from fpa_verl.integration.servers.weights import require_same_architecture


@pytest.fixture
def other(base_model, tmp_path) -> Path:
    """Another training of the same model, saved in pieces, in half precision."""
    model = AutoModelForCausalLM.from_pretrained(base_model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1)
    model.to(torch.bfloat16).save_pretrained(tmp_path / "other", max_shard_size="50KB")
    character_tokenizer().save_pretrained(tmp_path / "other")
    assert (tmp_path / "other" / "model.safetensors.index.json").exists()
    return tmp_path / "other"


def change(file: Path, **entries) -> None:
    found = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**found, **entries}))


def test_another_training_may_however_it_is_saved(base_model, other):
    require_same_architecture(base_model, other)
    require_same_architecture(other, base_model)
    # What lies beside the pieces that the index names is not read.
    save_file({"more": torch.zeros(1)}, other / "consolidated.safetensors")
    require_same_architecture(base_model, other)


def test_a_tied_head_may_be_written_down(base_model, tmp_path):
    shutil.copytree(base_model, tmp_path / "tied")
    tensors = load_file(tmp_path / "tied" / "model.safetensors")
    save_file(
        {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()},
        tmp_path / "tied" / "model.safetensors",
        metadata={"format": "pt"},
    )
    require_same_architecture(base_model, tmp_path / "tied")


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"layers": 3}, "num_hidden_layers of config.json is 3 and not 2 (and 1 more)"),
        ({"hidden": 96}, "hidden_size of config.json is 96 and not 64 (and 1 more)"),
    ],
)
def test_another_architecture_may_not(base_model, tmp_path, sizes, says):
    small_qwen3(character_tokenizer(), **{"hidden": 64, "layers": 2, **sizes}).save_pretrained(tmp_path / "m")
    character_tokenizer().save_pretrained(tmp_path / "m")
    with pytest.raises(ConfigError) as error:
        require_same_architecture(base_model, tmp_path / "m")
    assert str(error.value).startswith(f"{tmp_path}/m cannot take the place of {base_model} in a rollout engine")
    assert says in str(error.value)
    assert str(error.value).endswith("give this one a command of its own")


def test_what_computes_something_else_with_the_same_tensors_may_not(base_model, other):
    change(other / "config.json", rms_norm_eps=1e-3)
    with pytest.raises(ConfigError, match=r"rms_norm_eps of config.json is 0.001 and not 1e-06"):
        require_same_architecture(base_model, other)


def test_weights_that_belie_their_configuration(base_model, tmp_path):
    shutil.copytree(base_model, tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({**tensors, name: tensors[name][:, :-1].contiguous()}, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=rf"{name} has shape \[192, 63\] and not \[192, 64\]"):
        require_same_architecture(base_model, tmp_path / "m")
    del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=rf"{name} has shape none and not \[192, 64\]"):
        require_same_architecture(base_model, tmp_path / "m")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"model\.safetensors is missing or damaged"):
        require_same_architecture(base_model, tmp_path / "m")
    file.unlink()
    with pytest.raises(ConfigError, match=r"has no \*\.safetensors"):
        require_same_architecture(base_model, tmp_path / "m")


def test_other_tokens_and_other_ends_may_not(base_model, other):
    change(other / "generation_config.json", eos_token_id=[1, 5])
    with pytest.raises(ConfigError, match=r"it ends at the tokens \[1, 5\] and not at \[1\]"):
        require_same_architecture(base_model, other)
    tokenizer = character_tokenizer()
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(other)
    with pytest.raises(ConfigError, match="its tokenizer has another vocabulary"):
        require_same_architecture(base_model, other)
