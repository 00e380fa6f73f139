from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A machine that has other work as well is no reason to fail.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# The tests run on the CPU platform wherever they run, and never reach for a hub.
os.environ.update(
    VERL_PLATFORM="cpu",
    VERL_ENGINE_DEVICE="cuda",
    VLLM_TARGET_DEVICE="cpu",
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
)


@pytest.fixture(scope="session")
def base_model(tmp_path_factory):
    """A small randomly initialised Qwen3 with the demo's tokenizer."""
    import torch

    from fpa_verl.demo.model import character_tokenizer, small_qwen3

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    tokenizer = character_tokenizer()
    small_qwen3(tokenizer, hidden=64, layers=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pytest_collection_modifyitems(items):
    """The file of real runs takes as long as all others: first, it leaves no worker waiting at the end."""
    items.sort(key=lambda item: item.path.name != "test_trainers.py")
