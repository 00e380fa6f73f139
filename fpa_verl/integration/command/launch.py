"""`python -m verl.trainer.main recipe=NAME [overrides]`: compose, check, hand over to verl."""

from __future__ import annotations

import os
import shlex
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path

import hydra
import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from fpa_verl.errors import AGAIN, FpaError
from fpa_verl.integration.config.settings import as_list, joins_cluster
from fpa_verl.integration.config.typed_command import STARTED_AT, variables
from fpa_verl.paths import RECIPES
from fpa_verl.runs.ledger import close_ledger

# What a shell expects of a command that Ctrl-C ended.
INTERRUPTED = 130
# One entry for each job that ended in an error.
_failed: list[bool] = []
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
    """Make all paths absolute, and run_dir one of its own for each job of a multirun."""
    hydra_config = HydraConfig.get()
    named = any(override.startswith("run_dir=") for override in hydra_config.overrides.task)
    if hydra_config.mode == RunMode.MULTIRUN and not named:
        config.run_dir = hydra_config.runtime.output_dir
    config.run_dir = str(Path(config.run_dir).expanduser().absolute())
    config.rollouts = _absolute(config.rollouts)
    for split in ("train", "test"):
        if not OmegaConf.is_missing(config.problems, split) and config.problems[split] is not None:
            config.problems[split] = _absolute(config.problems[split])
    for files in ("train_files", "val_files"):
        config.data[files] = [_absolute(name) for name in as_list(config.data[files])]


def _absolute(name: str) -> str:
    """Workers on other machines have another working directory."""
    return str(Path(name).expanduser().absolute())


def choose_cluster(config: DictConfig) -> None:
    """Join the cluster that is named, or stay on this machine, where nobody else can reach the servers."""
    ray_init = config.ray_kwargs.ray_init
    with open_dict(ray_init):
        if joins_cluster(config):
            # Ray knows processors and devices of a cluster itself, and refuses to be told.
            ray_init.num_cpus = ray_init.num_gpus = None
        else:
            ray_init.address = "local"
            # Loopback; Ray takes 127.0.0.1 for a mistake, and looks for another address.
            ray_init._node_ip_address = "127.0.0.2"
            # Ray's head keeps what became of 100,000 tasks: 200 MB, which GRPO fills in some hundred steps.
            ray_init._system_config = {"task_events_max_num_task_in_gcs": 5_000}


def tell_workers(config: DictConfig, **variables: str) -> None:
    """Set environment variables here and in Ray's workers, whichever machine they are on."""
    os.environ.update(variables)
    ray_init = config.ray_kwargs.ray_init
    with open_dict(ray_init):
        ray_init.runtime_env = {**(ray_init.get("runtime_env") or {})}
        ray_init.runtime_env.env_vars = {**(ray_init.runtime_env.get("env_vars") or {}), **variables}


def run(config: DictConfig) -> None:
    """Check the recipe, then run verl's own main with it.

    Raises:
        FpaError: the recipe cannot be run as given, or a worker stopped with such an error.
    """
    place_outputs(config)
    set_environment(config)
    command = shlex.join(["python", "-m", "verl.trainer.main", *HydraConfig.get().overrides.task])
    started_at = _command_started.pop() if _command_started else time.time()
    tell_workers(config, **variables(command, started_at))
    # From here on verl is imported, with the platform that the recipe names.
    from fpa_verl.integration.command import outcome, preflight, resume

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

    from fpa_verl.integration.command.outcome import ledger_folder
    from fpa_verl.integration.safety.failures import first_cause
    from fpa_verl.integration.safety.shared_memory import Sweeper

    choose_cluster(config)
    failed = True
    try:
        with Sweeper() as sweeper:
            try:
                main_ppo.main.__wrapped__(config)
                failed = False
            finally:
                sweeper.look()
                # The next job of a multirun has an environment of its own to hand to Ray.
                ray.shutdown()
    except Exception as error:
        cause = first_cause(error)
        if cause is None:
            raise
        raise cause from error
    finally:
        # A disk that is full must not hide what failed.
        with suppress(OSError) if failed else nullcontext():
            close_ledger(ledger_folder(config), started_at=float(os.environ[STARTED_AT]), failed=failed)


@hydra.main(config_path=str(RECIPES), config_name="main", version_base="1.3")
def _composed(config: DictConfig) -> None:
    try:
        run(config)
    except FpaError as error:
        # hydra would print its own trace of it, and the other jobs of a multirun are to run all the same.
        print(f"error: {error}", file=sys.stderr)
        _failed.append(True)
    except KeyboardInterrupt:
        print(f"interrupted. {AGAIN}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def main() -> None:
    """Entry point of `verl.trainer.main`."""
    _composed()
    if _failed:
        sys.exit(1)
