"""GPUs: whether there are any, whether this torch can use them, whether they are enough, and flash attention."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import torch

from fpa_verl.errors import ConfigError, IntegrationError
from fpa_verl.install import FLASH_ATTENTION, GPU
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import joins_cluster
from fpa_verl.integration.kernels.attention import NAME

# What the driver says of itself, where there is one.
DRIVER = Path("/proc/driver/nvidia/version")
# The first driver of each CUDA.
DRIVERS = {"13": 580, "12": 525}


def check(facts: RunFacts) -> None:
    """Raise IntegrationError or ConfigError where a recipe for GPUs cannot run here."""
    # The driver of a Ray cluster need not have a GPU itself.
    if not joins_cluster(facts.config):
        require_gpu()
        require_enough(facts)
    if facts.kind.holds_engine:
        require_attention(facts)


def driver_version() -> str | None:
    """That of the NVIDIA driver; None where there is none."""
    if not DRIVER.exists():
        return None
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", DRIVER.read_text())
    return found[1] if found else "of unknown version"


def require_gpu() -> None:
    """Refuse a machine on which torch finds no GPU, and say why."""
    if torch.cuda.is_available():
        return
    driver, built_for = driver_version(), torch.version.cuda
    if driver is None:
        raise IntegrationError(
            "no GPU on this machine: add hardware=cpu (and model=tiny task=demo for the demo's), or set RAY_ADDRESS to "
            "a cluster that has some"
        )
    if built_for is None:
        raise IntegrationError(
            f"a GPU is here (driver {driver}), but torch {torch.__version__} is a build for CPUs: make another "
            f"environment, and there {GPU}"
        )
    wanted = DRIVERS.get(built_for.split(".")[0])
    raise IntegrationError(
        f"a GPU is here (driver {driver}), but torch {torch.__version__}, built for CUDA {built_for}, cannot use it: "
        + (f"it wants driver {wanted} or newer" if wanted else "the driver may be too old")
        + "; `nvidia-smi` shows the driver, `python -c 'import torch; torch.cuda.init()'` the reason"
    )


def require_enough(facts: RunFacts) -> None:
    """Refuse more devices than there are, which verl does once Ray has started."""
    wanted, there = int(facts.config.trainer.n_gpus_per_node), torch.cuda.device_count()
    if wanted > there:
        raise ConfigError(
            f"trainer.n_gpus_per_node={wanted}: torch sees {there} here (CUDA_VISIBLE_DEVICES hides others); "
            f"set trainer.n_gpus_per_node={there}. The paper's recipes fit on one H200"
        )


def require_attention(facts: RunFacts) -> None:
    """Refuse flash attention that is not there, or was built for another torch."""
    if other_attention(facts):
        return
    otherwise = f"or have torch's own, with +actor_rollout_ref.model.override_config.attn_implementation={NAME}"
    try:
        importlib.import_module("flash_attn")
    except ModuleNotFoundError as error:
        raise IntegrationError(
            f"verl trains with flash attention on a GPU, and {error.name} is not installed: {FLASH_ATTENTION} (Python "
            f"3.12), {otherwise}"
        ) from error
    except (ImportError, OSError) as error:
        raise IntegrationError(
            f"flash_attn cannot be loaded, as one that was built for another torch cannot ({_first_line(error)}): "
            f"{FLASH_ATTENTION} --force-reinstall, {otherwise}"
        ) from error


def other_attention(facts: RunFacts) -> str | None:
    """What is asked for in the place of flash attention."""
    return (facts.config.actor_rollout_ref.model.get("override_config") or {}).get("attn_implementation")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
