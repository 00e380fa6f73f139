"""`python -m verl.trainer.main recipe=NAME [overrides]`: compose, check, hand over to verl."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

import hydra
import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from fpa_verl.errors import AGAIN, FpaError
from fpa_verl.paths import RECIPES
from fpa_verl.report.ledger import COMMAND, STARTED_AT, close_ledger

# What a shell expects of a command that Ctrl-C ended.
INTERRUPTED = 130
# The first job of this process began with the process; later ones of a multirun begin when they run.
_command_started = [psutil.Process().create_time()]


def set_environment(config: DictConfig) -> None:
    """Export what the recipe sets for the workers in the driver as well, before verl looks at it.

    Variables that the user has set win.
    """
    wanted = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars") or {}
    for name, value in wanted.items():
        os.environ.setdefault(name, str(value))


def place_outputs(config: DictConfig) -> None:
    """Make run_dir absolute, and one of its own for each job of a multirun."""
    hydra_config = HydraConfig.get()
    named = any(override.startswith("run_dir=") for override in hydra_config.overrides.task)
    if hydra_config.mode == RunMode.MULTIRUN and not named:
        config.run_dir = hydra_config.runtime.output_dir
    config.run_dir = str(Path(config.run_dir).expanduser().absolute())
    config.rollouts = str(Path(config.rollouts).expanduser())


def join_cluster(config: DictConfig) -> None:
    """Of a cluster that is there, Ray knows processors, devices and addresses, and refuses to be told."""
    ray_init = config.ray_kwargs.ray_init
    if os.environ.get("RAY_ADDRESS") or ray_init.get("address"):
        with open_dict(ray_init):
            ray_init.num_cpus = ray_init.num_gpus = ray_init._node_ip_address = None


def run(config: DictConfig) -> None:
    """Check the recipe, then run verl's own main with it.

    Raises:
        FpaError: the recipe cannot be run as given, or a worker stopped with such an error.
    """
    place_outputs(config)
    set_environment(config)
    os.environ[COMMAND] = shlex.join(["python", "-m", "verl.trainer.main", *HydraConfig.get().overrides.task])
    os.environ[STARTED_AT] = str(_command_started.pop() if _command_started else time.time())
    # From here on verl is imported, with the platform that the recipe names.
    from fpa_verl.integration import outcome, preflight, resume

    preflight.check(config)
    if outcome.is_there(config):
        outcome.describe(config)
        return
    resume.choose_start(config)
    hand_over(config)
    outcome.describe(config)


def hand_over(config: DictConfig) -> None:
    """Run verl's main, and see to what it leaves.

    Raises:
        FpaError: what stopped it, where that is known.
    """
    import ray
    from verl.trainer import main_ppo

    from fpa_verl.integration.failures import first_cause
    from fpa_verl.integration.outcome import ledger_folder
    from fpa_verl.integration.shared_memory import swept

    join_cluster(config)
    failed = True
    with swept():
        try:
            main_ppo.main.__wrapped__(config)
            failed = False
        except Exception as error:
            cause = first_cause(error)
            if cause is None:
                raise
            raise cause from error
        finally:
            # The next job of a multirun has an environment of its own to hand to Ray.
            ray.shutdown()
            close_ledger(ledger_folder(config), started_at=float(os.environ[STARTED_AT]), failed=failed)


@hydra.main(config_path=str(RECIPES), config_name="main", version_base="1.3")
def _composed(config: DictConfig) -> None:
    try:
        run(config)
    except FpaError as error:
        # hydra would print its own trace of it.
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"interrupted. {AGAIN}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def main() -> None:
    """Entry point of `verl.trainer.main`."""
    _composed()
