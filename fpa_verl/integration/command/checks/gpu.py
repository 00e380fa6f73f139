"""GPUs: whether there are any, whether this torch can use them, whether they are enough, and flash attention."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AttentionInterface, AutoConfig

from fpa_verl.errors import ConfigError, IntegrationError
from fpa_verl.install import FLASH_ATTENTION, GPU, installed
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import FLASH, attention, joins_cluster
from fpa_verl.integration.kernels.attention import NAME
from fpa_verl.rollouts.fingerprint import local_model_dir

# What the driver says of itself, where there is one; some containers, and WSL, have its program alone.
DRIVER = Path("/proc/driver/nvidia/version")
SMI, ANSWERS_WITHIN_S = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"), 10
UNKNOWN_DRIVER = "of unknown version"
# The first driver of each CUDA, with which all of its minor versions run (NVIDIA's "minor version compatibility").
DRIVERS = {"13": 580, "12": 525}
# Of transformers, beside those that are registered there.
EAGER, SDPA = "eager", "sdpa"
# Those that are packages of their own, where `kernels` does not have transformers fetch one from a hub.
PACKAGES = {"flash_attention_3": "flash-attn-3", "flash_attention_4": "flash-attn-4"}
KERNELS = "kernels"
ATTENTION = "actor_rollout_ref.model.override_config.attn_implementation"


def check(facts: RunFacts) -> None:
    """Raise IntegrationError or ConfigError where a recipe for GPUs cannot run here."""
    # The driver of a Ray cluster need not have a GPU itself.
    if not joins_cluster(facts.config):
        require_gpu()
        require_enough(facts)
    if facts.kind.holds_engine:
        require_attention(facts)


def notes(facts: RunFacts) -> Iterator[str]:
    """Of an attention that spends a GPU on what one of ours does not."""
    if facts.kind.holds_engine and (other := other_attention(facts)) in (SDPA, EAGER):
        yield (
            f"{ATTENTION}={other} works on all pairs of a micro-batch's tokens and masks those of different sequences, "
            f"in time and memory: {NAME} takes each sequence by itself, and refuses a model whose attention is another"
        )


def driver_version() -> str | None:
    """That of the NVIDIA driver; None where there is none, or none that works."""
    return driver_state()[0]


def driver_state() -> tuple[str | None, str]:
    """Version of the NVIDIA driver, and why its program says none; neither where there is no such program."""
    if DRIVER.exists():
        found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", DRIVER.read_text())
        return found[1] if found else UNKNOWN_DRIVER, ""
    try:
        done = subprocess.run(SMI, capture_output=True, text=True, timeout=ANSWERS_WITHIN_S)
    except FileNotFoundError:
        return None, ""
    except (OSError, subprocess.SubprocessError) as error:
        return None, _first_line(error)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        return None, next(iter(said.splitlines()), f"exit status {done.returncode}")
    return next(iter(done.stdout.split()), UNKNOWN_DRIVER), ""


def require_gpu() -> None:
    """Refuse a machine on which torch finds no GPU, and say why."""
    if torch.cuda.is_available():
        return
    (driver, trouble), built_for = driver_state(), torch.version.cuda
    if trouble:
        raise IntegrationError(
            f"no GPU can be used: nvidia-smi is here and fails ({trouble}); have the driver mended, or add hardware=cpu"
        )
    if driver is None:
        raise IntegrationError(
            "no GPU on this machine: add hardware=cpu (and model=tiny task=demo for the demo's), or set RAY_ADDRESS to "
            "a cluster that has some"
        )
    if built_for is None:
        raise IntegrationError(
            f"a GPU is here (driver {driver}), but torch {torch.__version__} is a build for CPUs: make another "
            f"environment, and there, in a clone of fpa-verl, {GPU}"
        )
    raise IntegrationError(
        f"a GPU is here (driver {driver}), but torch {torch.__version__}, built for CUDA {built_for}, cannot use it: "
        f"{_hindrance(driver, DRIVERS.get(built_for.split('.')[0]))}; `nvidia-smi` shows the driver, "
        "`python -c 'import torch; torch.cuda.init()'` the reason"
    )


def _hindrance(driver: str, wanted: int | None) -> str:
    """What keeps a torch that was built for GPUs from one, as far as the driver tells."""
    major = driver.partition(".")[0]
    if wanted is None or not major.isdigit():
        return "the driver may be too old"
    if int(major) < wanted:
        return f"it wants driver {wanted} or newer, which is the machine's owner to install"
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return f"CUDA_VISIBLE_DEVICES={visible} may hide it: unset it"
    return (
        "the driver is new enough, so the container or job may have been given none (docker run --gpus all, sbatch "
        "--gres=gpu:N), or nvidia-fabricmanager does not run"
    )


def require_enough(facts: RunFacts) -> None:
    """Refuse more devices than there are, which verl does once Ray has started."""
    wanted, there = int(facts.config.trainer.n_gpus_per_node), torch.cuda.device_count()
    if wanted > there:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible} may hide others)"
        raise ConfigError(
            f"trainer.n_gpus_per_node={wanted}: torch sees {there} here{hidden}; set trainer.n_gpus_per_node={there}, "
            "where that is enough: Qwen3-4B fits on one H200, and on no GPU of 80 GB alone. `fpa-verl plan --memory "
            f"--model {facts.model_path} --devices {there}` says what fits where"
        )


def require_attention(facts: RunFacts) -> None:
    """Refuse flash attention that is not there, or was built for another torch."""
    if other := other_attention(facts):
        require_known_attention(other)
        if other == NAME:
            require_whole_attention(facts)
        return
    require_flash_attention()


def require_whole_attention(facts: RunFacts) -> None:
    """Refuse torch's own for packed sequences where a model attends to less than a whole one, or caps its scores."""
    model = AutoConfig.from_pretrained(local_model_dir(facts.model_path)).get_text_config()
    window = getattr(model, "sliding_window", None) if getattr(model, "use_sliding_window", True) else None
    longest = facts.config.data.max_prompt_length + facts.config.data.max_response_length
    has = f"attends to windows of {window:,} tokens" if window and window < longest else None
    if getattr(model, "attn_logit_softcapping", None):
        has = "caps the scores of its attention"
    if has:
        raise ConfigError(
            f"{ATTENTION}={NAME} has causal attention to whole sequences alone, and {facts.model_path} {has}: set it "
            f"to {SDPA}, or leave it out for flash-attn"
        )


def require_flash_attention() -> None:
    """Refuse a machine without flash-attn, or with one that was built for another torch."""
    otherwise = f"or have torch's own, with +{ATTENTION}={NAME}"
    try:
        # Of the package itself: a later one of the same name has other modules in a folder without it.
        importlib.import_module("flash_attn.bert_padding")
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
    """What is asked for in the place of flash attention; None where that is what is asked for."""
    asked = attention(facts.config.actor_rollout_ref.model)
    return None if asked == FLASH else asked


def require_known_attention(name: str) -> None:
    """Refuse an attention that transformers does not know, or has no package for; one of a hub it loads itself."""
    known = [EAGER, *(one for one in AttentionInterface().valid_keys() if "|" not in one)]
    if name not in known and "/" not in name:
        raise ConfigError(
            f"{ATTENTION}={name}: transformers knows {', '.join(known)}; {NAME} is torch's own for packed sequences"
        )
    package = PACKAGES.get(name)
    if package and not (installed(package) or installed(KERNELS)):
        raise IntegrationError(
            f"{ATTENTION}={name}: {package} is not installed, nor is {KERNELS}, by which transformers fetches it: pip "
            f"install {package}, leave the key out for flash-attn, or set it to {NAME}, torch's own"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
