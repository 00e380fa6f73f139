from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM

from fpa_verl.demo.model import character_tokenizer, small_qwen3
from fpa_verl.integration.workers.export import write_hugging_face
from fpa_verl.rollouts.ends import end_ids
from fpa_verl.rollouts.sealed_json import read_sealed_json
from fpa_verl.runs.inputs import MODEL_FILE


def test_a_better_model_replaces_the_one_before(tmp_path):
    tokenizer = character_tokenizer()
    config = None
    for seed in (0, 1, 2):
        torch.manual_seed(seed)
        model = small_qwen3(tokenizer, hidden=32, layers=1)
        # The worker holds one configuration for the whole run.
        if config is None:
            config = model.config
            config.dtype = torch.float32
            # As verl takes it over from override_config.
            config.attn_implementation = "packed_sdpa"
        before = config.to_dict()
        write_hugging_face(tmp_path / "best", config, tokenizer, dict(model.state_dict()), {"step": seed})
        assert config.to_dict() == before
        assert config.dtype is torch.float32
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "best").state_dict()
        for name, value in model.state_dict().items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=0)
        assert read_sealed_json(tmp_path / "best" / MODEL_FILE, "") == ({"step": seed}, True)
        # Whoever has no plugin is to load it.
        assert "packed_sdpa" not in (tmp_path / "best" / "config.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_the_ends_of_the_base_model_are_kept(tmp_path):
    """A chat model may end in more tokens than its configuration names."""
    tokenizer = character_tokenizer()
    model = small_qwen3(tokenizer, hidden=32, layers=1)
    model.config.dtype = torch.float32
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 2], "temperature": 0.6}')
    generation = tmp_path / "generation_config.json"
    write_hugging_face(tmp_path / "best", model.config, tokenizer, dict(model.state_dict()), {}, generation)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "best").generation_config.eos_token_id == [1, 2]
    assert end_ids(str(tmp_path / "best"), tokenizer) == {1, 2, tokenizer.eos_token_id}
