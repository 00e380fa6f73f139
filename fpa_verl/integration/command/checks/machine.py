"""verl, the plugin, and a device to run on."""

from __future__ import annotations

import importlib.util
import os

import torch

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import joins_cluster
from fpa_verl.integration.config.versions import check_verl


def check(facts: RunFacts) -> None:
    """Raise IntegrationError where nothing of verl could run here."""
    check_verl()
    require_plugin()
    if facts.config.trainer.device == "cuda":
        require_gpu(facts)
        require_attention(facts)


def require_plugin() -> None:
    """Raise IntegrationError where verl does not load the plugin in this process."""
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    if policy != "auto" and "fpa_verl" not in {name.strip() for name in policy.split(",")}:
        raise IntegrationError(
            f"VERL_USE_EXTERNAL_PLUGINS={policy} keeps verl from loading this plugin: unset it, or add fpa_verl to it"
        )
    import verl  # noqa: F401
    from verl.plugin.platform.platform_manager import PlatformRegistry

    if "cpu" not in PlatformRegistry.registered_names():
        raise IntegrationError(
            "verl did not load the plugin (entry point 'fpa_verl' in group verl.plugins): reinstall fpa-verl in "
            "this environment, then `python -c 'import fpa_verl.integration.plugin'` shows the reason"
        )


def require_gpu(facts: RunFacts) -> None:
    # The driver of a Ray cluster need not have a GPU itself.
    if not torch.cuda.is_available() and not joins_cluster(facts.config):
        raise IntegrationError(
            "no GPU on this machine: add hardware=cpu (and model=tiny task=demo for the demo's), or set RAY_ADDRESS to "
            "a cluster that has some"
        )


def require_attention(facts: RunFacts) -> None:
    chosen = (facts.config.actor_rollout_ref.model.get("override_config") or {}).get("attn_implementation")
    if facts.kind.holds_engine and chosen is None and importlib.util.find_spec("flash_attn") is None:
        raise IntegrationError(
            "verl trains with flash attention on a GPU, and flash_attn is not installed: pip install 'fpa-verl[gpu]', "
            "or choose another with +actor_rollout_ref.model.override_config.attn_implementation=sdpa"
        )
