"""GPUs by their data sheets: what a plan reckons with where nothing was measured."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fpa_verl.errors import ConfigError

# GiB of a GPU that are set aside for what is no tensor of a step: CUDA contexts, NCCL, CUDA graphs of a sleeping
# engine, and what the allocator cannot hand out. Assumed, not measured.
SET_ASIDE = 8


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        name: as it is sold.
        gib: what torch finds on it.
        flops: FLOP/s in BF16, dense.
        bandwidth: bytes a second of its memory.
    """

    name: str
    gib: float
    flops: float
    bandwidth: float

    @property
    def model(self) -> str:
        """What NVML's name of one has in it: NVIDIA H200."""
        return self.name.split()[0]

    def is_a(self, device: str) -> bool:
        """Whether a device that NVML calls so is one: an NVIDIA A100-SXM4-80GB is an A100, a GH200 no H200."""
        return self.model in re.findall(r"\w+", device)


GPUS = (
    Gpu("H200 141 GB", 139, 989e12, 4.8e12),
    Gpu("H100 80 GB", 79, 989e12, 3.35e12),
    Gpu("A100 80 GB", 79, 312e12, 2.04e12),
)


def gpu_named(name: str) -> Gpu:
    """The GPU whose model is `name`, in whatever letters.

    Raises:
        ConfigError: none is.
    """
    for gpu in GPUS:
        if gpu.model.lower() == name.strip().lower():
            return gpu
    raise ConfigError(f"--gpu {name}: choose from {', '.join(gpu.model.lower() for gpu in GPUS)}")
