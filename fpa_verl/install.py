"""The commands that install what is missing; README.md, "On 2 x H200", says more of each."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fpa_verl.errors import IntegrationError

# From a clone of the repository.
GPU = "pip install -c constraints-gpu.txt '.[gpu]'"
CPU = "make setup"
# Of those that constraints-gpu.txt has, and verl alone does not pin.
TRIED_FOR_GPUS = {"torch": "2.11", "transformers": "5.9", "vllm": "0.24", "ray": "2.60"}
# An index has its sources alone; verl keeps a wheel for Python 3.12 and the torch of the extra.
FLASH_ATTENTION = (
    "pip install --no-deps --only-binary :all: --extra-index-url "
    "https://verl-project.github.io/verl-wheelhouse/simple/ flash-attn==2.8.3"
)
COMMANDS = f"in a clone of fpa-verl {GPU}, or on a machine without a GPU {CPU}"
# Modules that `pip install .` alone does not bring, and the extras do.
OF_EXTRAS = ("torch", "transformers", "safetensors", "verl", "tensordict", "transfer_queue", "ray", "vllm")


def installed(package: str) -> str | None:
    """The version of a package; None where it is not installed, even if a folder of its name can be imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def require(*packages: str) -> None:
    """Raise IntegrationError where one of the packages is not installed."""
    for package in packages:
        if installed(package) is None:
            raise IntegrationError(f"{package} is not installed: {COMMANDS}")


def missing(error: ModuleNotFoundError) -> str | None:
    """What to say of an import that failed for want of an extra; None where another module is missing."""
    name = (error.name or "").partition(".")[0]
    return f"{name} is not installed: {COMMANDS}" if name in OF_EXTRAS else None
