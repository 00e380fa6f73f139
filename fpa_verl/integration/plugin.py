"""What verl imports at the end of `import verl`, in the driver and in every Ray worker.

Registration must be cheap, for a run has about ten such processes: what needs verl's trainers or
its algorithms waits until verl itself imports them.
"""

from __future__ import annotations

import os
from functools import cache
from types import ModuleType

from verl.plugin.platform.platform_manager import PlatformRegistry
from wrapt import when_imported

from fpa_verl.integration.config.resolvers import register
from fpa_verl.integration.config.versions import check_verl
from fpa_verl.integration.cpu.platform import PlatformCPU

check_verl()
register()
PlatformRegistry.register(platform="cpu")(PlatformCPU)


@cache
def adapt(platform: str) -> None:
    """What a platform of ours needs in this process, whose environment names it."""
    if platform.strip().lower() == "cpu":
        from fpa_verl.integration.cpu.patches import activate

        activate()


adapt(os.environ.get("VERL_PLATFORM", ""))


@when_imported("transformers.modeling_utils")
def _register_attention(_: ModuleType) -> None:
    from fpa_verl.integration.kernels import attention

    attention.register()


@when_imported("verl.utils.torch_functional")
def _replace_log_probs(torch_functional: ModuleType) -> None:
    from fpa_verl.integration.kernels import log_probs

    log_probs.replace_the_loop(torch_functional)


@when_imported("verl.trainer.ppo.core_algos")
def _register_algorithms(core_algos: ModuleType) -> None:
    from fpa_verl.integration import policy_losses

    policy_losses.register(core_algos)


@when_imported("verl.experimental.agent_loop.agent_loop")
def _register_agent_loops(agent_loop: ModuleType) -> None:
    # As above: verl's own decorator registers the class.
    import fpa_verl.integration.servers.single_turn  # noqa: F401


@when_imported("verl.workers.rollout.replica")
def _register_servers(replica: ModuleType) -> None:
    # By verl's own door, in the place of its servers of that name: theirs, with a door of ours.
    def load() -> type:
        from fpa_verl.integration.servers.vllm_server import vLLMReplica

        return vLLMReplica

    replica.RolloutReplicaRegistry.register("vllm", load)


@when_imported("verl.trainer.ppo.v1.agent_loop_tq")
def _say_errors_once(_: ModuleType) -> None:
    from fpa_verl.integration.safety import said_once

    said_once.install()


@when_imported("verl.trainer.ppo.v1")
def _register_trainers(v1: ModuleType) -> None:
    # verl's own decorators register the classes when the module is imported.
    import fpa_verl.integration.trainers  # noqa: F401
