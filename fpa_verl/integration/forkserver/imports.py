"""What Ray's workers import that takes its time, and neither needs nor brings Ray."""

from __future__ import annotations

import importlib
import os
from importlib.util import find_spec

from fpa_verl.integration.cpu.patches import activate

# verl's trainer and workers, TransferQueue and vLLM's server: with these there, the rest is a second.
OF_VERL = ("tensordict", "transformers", "datasets", "peft", "hydra", "scipy.stats", "torchdata.stateful_dataloader")
OF_VLLM = ("vllm.config", "vllm.sampling_params", "vllm.engine.arg_utils", "vllm.entrypoints.openai.api_server")


def load() -> None:
    """Import them, as far as they are installed."""
    if os.environ.get("VERL_PLATFORM") == "cpu":
        # Before vLLM looks for a device.
        activate()
    for module in (*OF_VERL, *OF_VLLM):
        if find_spec(module.partition(".")[0]):
            importlib.import_module(module)
