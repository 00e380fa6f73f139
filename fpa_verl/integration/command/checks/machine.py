"""verl, the plugin, and a device to run on."""

from __future__ import annotations

import os

from transformers import AutoConfig

from fpa_verl.errors import ConfigError, IntegrationError
from fpa_verl.integration.command.checks import gpu
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.settings import Devices, joins_cluster, require_bounds
from fpa_verl.integration.config.versions import check_verl
from fpa_verl.rollouts.fingerprint import local_model_dir

# Of vLLM's attention on a CPU.
HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)


def check(facts: RunFacts) -> None:
    """Raise IntegrationError where nothing of verl could run here."""
    check_verl()
    require_plugin()
    require_nodes(facts)
    if facts.config.trainer.device == "cuda":
        gpu.check(facts)


def require_nodes(facts: RunFacts) -> None:
    """Refuse what is no number of devices, and machines that no Ray cluster has: verl would wait for them."""
    trainer = facts.config.trainer
    require_bounds(Devices, trainer, "trainer")
    if trainer.nnodes > 1 and not joins_cluster(facts.config):
        raise ConfigError(
            f"trainer.nnodes={trainer.nnodes}: without RAY_ADDRESS a run stays on its machine: set it to a cluster of "
            "so many (docs/cluster.md), or trainer.nnodes=1"
        )


def check_model(facts: RunFacts) -> None:
    """Raise ConfigError where this machine cannot serve the model: vLLM's server would find out, and die."""
    if facts.config.trainer.device == "cuda" or not facts.holds_rollout_engine:
        return
    config = AutoConfig.from_pretrained(local_model_dir(facts.model_path))
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if size not in HEAD_SIZES:
        raise ConfigError(
            f"{facts.model_path} has attention heads of {size}, and vLLM's on a CPU are of "
            f"{', '.join(map(str, HEAD_SIZES))}: make the model with another head_dim"
        )


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
