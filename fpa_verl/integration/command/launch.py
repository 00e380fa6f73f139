"""`python -m verl.trainer.main recipe=NAME [overrides]`: compose, check, hand over to verl."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import hydra
import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from fpa_verl.errors import AGAIN, FpaError
from fpa_verl.integration.config.settings import as_list, joins_cluster
from fpa_verl.integration.config.typed_command import variables
from fpa_verl.integration.say import say
from fpa_verl.paths import RECIPES
from fpa_verl.runs.ledger import close_ledger

# What a shell expects of a command that Ctrl-C ended.
INTERRUPTED = 130
# What Ray's head keeps of its tasks: of the 100,000 that it would, GRPO makes 200 MB in some hundred steps.
TASKS_KEPT = {"RAY_task_events_max_num_task_in_gcs": "5000"}


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
            for name, value in TASKS_KEPT.items():
                os.environ.setdefault(name, value)


def tell_workers(config: DictConfig, **variables: str) -> None:
    """Set environment variables here and in Ray's workers, whichever machine they are on."""
    os.environ.update(variables)
    ray_init = config.ray_kwargs.ray_init
    with open_dict(ray_init):
        ray_init.runtime_env = {**(ray_init.get("runtime_env") or {})}
        ray_init.runtime_env.env_vars = {**(ray_init.runtime_env.get("env_vars") or {}), **variables}


def run(config: DictConfig, started_at: float) -> None:
    """Check the recipe, then run verl's own main with it.

    Args:
        config: the configuration as hydra composed it.
        started_at: unix time at which the command was typed.

    Raises:
        FpaError: the recipe cannot be run as given, or a worker stopped with such an error.
    """
    place_outputs(config)
    set_environment(config)
    command = shlex.join(["python", "-m", "verl.trainer.main", *HydraConfig.get().overrides.task])
    tell_workers(config, **variables(command, started_at))
    from fpa_verl.integration.command.terminal import Terminal

    with Terminal(verbose=bool(config.verbose)) as terminal:
        model = str(config.actor_rollout_ref.model.path)
        # What a download shows of itself is not shown.
        from_hub = "" if Path(model).expanduser().is_dir() else f" ({model}: from the hub, if it is not here yet)"
        say(f"checking recipe, data and model{from_hub}")
        # From here on verl is imported, with the platform that the recipe names.
        from fpa_verl.integration.command import preflight, resume
        from fpa_verl.integration.config.kinds import facts_of

        facts = facts_of(config)
        preflight.check(facts)
        if not facts.kind.is_done(facts):
            if facts.kind.resumes:
                resume.choose_start(config)
            terminal.follow(facts.folder)
            with closed_ledger(facts.folder, started_at):
                hand_over(config)
            # What was made is not what there was.
            facts = facts_of(config)
    facts.kind.report(facts)


def hand_over(config: DictConfig) -> None:
    """Start Ray and verl's trainer, as verl's own main does, and see to what they leave.

    Raises:
        FpaError: what stopped them, where that is known.
    """
    import ray
    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config
    from verl.utils.device import auto_set_device

    from fpa_verl.integration.safety.failures import first_cause
    from fpa_verl.integration.safety.shared_memory import Sweeper

    choose_cluster(config)
    say("joining the Ray cluster" if joins_cluster(config) else "starting Ray")
    try:
        auto_set_device(config)
        validate_config(config, need_reference_policy(config), need_critic(config))
        with Sweeper() as sweeper:
            try:
                run_ppo(config, task_runner_class=TaskRunnerV1)
            finally:
                sweeper.look()
                # The next job of a multirun has an environment of its own to hand to Ray.
                ray.shutdown()
    except Exception as error:
        cause = first_cause(error)
        if cause is None:
            raise
        raise cause from error


@contextmanager
def closed_ledger(folder: Path, started_at: float) -> Iterator[None]:
    """Write down at the end of the block what came after the last record of the attempt that began then."""
    failed = True
    try:
        yield
        failed = False
    finally:
        # A disk that is full must not hide what failed.
        with suppress(OSError) if failed else nullcontext():
            close_ledger(folder, started_at=started_at, failed=failed)


def main() -> None:
    """Entry point of `verl.trainer.main`: one job, or those of a multirun one after the other."""
    failed: list[FpaError] = []
    # The first job begins with the process; later ones of a multirun begin when they run.
    begins = iter([psutil.Process().create_time()])

    @hydra.main(config_path=str(RECIPES), config_name="main", version_base="1.3")
    def job(config: DictConfig) -> None:
        try:
            run(config, next(begins, None) or time.time())
        except FpaError as error:
            # hydra would print its own trace of it, and the other jobs are to run all the same.
            print(f"error: {error}", file=sys.stderr)
            failed.append(error)
        except KeyboardInterrupt:
            print(f"interrupted. {AGAIN}", file=sys.stderr)
            sys.exit(INTERRUPTED)

    job()
    if failed:
        sys.exit(1)
