"""`python -m verl.trainer.main recipe=NAME [overrides]`: compose, check, hand over to verl."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from fpa_verl.commands import MAIN, VERLS_MAIN, Command, key_of, typed
from fpa_verl.errors import AGAIN, ConfigError, FpaError, MismatchError
from fpa_verl.integration.command.added_keys import likely_slips
from fpa_verl.integration.command.choices import VERLS_CONFIG, require_choices
from fpa_verl.integration.command.own_file import PAGE, VERLS_FILE, say_what_was_overridden
from fpa_verl.integration.config.settings import as_list, joins_cluster
from fpa_verl.integration.config.typed_command import variables
from fpa_verl.integration.forkserver import kept
from fpa_verl.integration.say import say
from fpa_verl.reward.function import PACKAGE
from fpa_verl.rollouts.fingerprint import is_hub_name
from fpa_verl.runs.handing_over import model_of
from fpa_verl.runs.ledger import close_ledger
from fpa_verl.runs.rounds import has_rounds

if TYPE_CHECKING:
    from fpa_verl.integration.config.facts import RunFacts

# What a shell expects of a command that Ctrl-C ended.
INTERRUPTED = 130
# What Ray's head keeps of its tasks: of the 100,000 that it would, GRPO makes 200 MB in some hundred steps.
TASKS_KEPT = {"RAY_task_events_max_num_task_in_gcs": "5000"}
HIDDEN_GPUS = "CUDA_VISIBLE_DEVICES"
# Keys of models, which may be folders or names on the hub.
MODELS = ("actor_rollout_ref.model.path", "reference.model", "tree.value_model", "beam.value_model")
OWN_COMMAND: ContextVar[bool] = ContextVar("the command checks its jobs itself", default=False)


def set_environment(config: DictConfig) -> None:
    """Export what the recipe sets for the workers in the driver as well, before verl looks at it.

    Variables that the user has set win.
    """
    wanted = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars") or {}
    for name, value in wanted.items():
        os.environ.setdefault(name, str(value))
    # `python -m verl.trainer.main` has imported verl, and with it the plugin, before the recipe named a platform; the
    # workers find it named.
    from fpa_verl.integration.plugin import adapt

    adapt(os.environ.get("VERL_PLATFORM", ""))


def require_recipe(config: DictConfig) -> None:
    """Refuse a configuration without a recipe, as a file of verl's alone is, and one without what verl has itself."""
    if "recipe_name" not in config:
        raise ConfigError(f"no recipe: add recipe=NAME, or name one in the file's defaults, before _self_ ({PAGE})")
    if OmegaConf.select(config, "trainer.use_v1") is None:
        raise ConfigError(
            f"the configuration has none of verl's own keys: begin the file's defaults with `- {VERLS_FILE}` ({PAGE})"
        )


def settle_platform() -> None:
    """Have verl take the platform that is wanted: its own main has looked for one before a recipe could name it."""
    from verl.plugin.platform import get_platform
    from verl.plugin.platform.platform_manager import PlatformRegistry, set_platform

    wanted = PlatformRegistry.get(os.environ.get("VERL_PLATFORM", ""))
    if wanted is not None and not isinstance(get_platform(), wanted):
        set_platform(wanted())


def hand_over(config: DictConfig) -> None:
    """Begin with the model of the run that `start_from` names, where it does.

    Raises:
        DatasetError: it hands none over.
    """
    if config.start_from:
        config.actor_rollout_ref.model.path = str(model_of(str(config.start_from)).absolute())


def place_outputs(config: DictConfig) -> None:
    """Make all paths absolute."""
    config.run_dir = str(Path(config.run_dir).expanduser().absolute())
    config.rollouts, config.trees = _absolute(config.rollouts), _absolute(config.trees)
    for split in ("train", "test"):
        if not OmegaConf.is_missing(config.problems, split) and config.problems[split] is not None:
            config.problems[split] = _absolute(config.problems[split])
    scorer = config.reward.custom_reward_function
    if scorer.path and not str(scorer.path).startswith(PACKAGE):
        scorer.path = _absolute(scorer.path)
    evaluation = config.evaluation
    if evaluation.base:
        evaluation.base = _absolute(evaluation.base)
    if "runs" in evaluation:
        evaluation.runs = [_absolute(name) for name in as_list(evaluation.runs)]
    for key in MODELS:
        model = OmegaConf.select(config, key)
        if model and Path(model).expanduser().is_dir():
            OmegaConf.update(config, key, _absolute(model))
    for files in ("train_files", "val_files"):
        config.data[files] = [_absolute(name) for name in as_list(config.data[files])]


def choose_run_dir(config: DictConfig) -> None:
    """One of its own for each job of a multirun."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN and not is_named("run_dir"):
        config.run_dir = hydra_config.runtime.output_dir


def is_named(key: str) -> bool:
    """Whether the command gives a key a value."""
    return any(key_of(word) == key for word in HydraConfig.get().overrides.task)


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
            if config.trainer.device == "cpu" and os.environ.get(HIDDEN_GPUS) == "":
                # Whoever hides all GPUs hides from Ray what a recipe without any declares as such.
                del os.environ[HIDDEN_GPUS]


def tell_workers(config: DictConfig, **variables: str) -> None:
    """Set environment variables here and in Ray's workers, whichever machine they are on."""
    os.environ.update(variables)
    ray_init = config.ray_kwargs.ray_init
    with open_dict(ray_init):
        ray_init.runtime_env = {**(ray_init.get("runtime_env") or {})}
        ray_init.runtime_env.env_vars = {**(ray_init.runtime_env.get("env_vars") or {}), **variables}


def typed_job(config: DictConfig) -> Command:
    """The command that makes this run and no other: what was typed, or of a multirun this one job."""
    hydra_config, command = HydraConfig.get(), typed()
    if hydra_config.mode != RunMode.MULTIRUN:
        return command
    if command.start not in (MAIN, VERLS_MAIN):
        # A launcher's process, on whichever machine: what was typed there is the launcher's.
        command = Command.of(hydra_config.overrides.task)
    job = command.job(hydra_config.overrides.task)
    if is_named("run_dir"):
        return job
    folder = Path(config.run_dir)
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    return job.with_values({"run_dir": str(shown)})


def prepare(config: DictConfig, started_at: float) -> RunFacts:
    """Settle what the machine and the command have to say to the recipe, and check it.

    Args:
        config: the configuration as hydra composed it; changed in place.
        started_at: unix time at which the command was typed.

    Raises:
        FpaError: the recipe cannot be run as given.
    """
    hand_over(config)
    choose_run_dir(config)
    model = str(config.actor_rollout_ref.model.path)
    # What a download shows of itself is not shown.
    from_hub = f" ({model}: from the hub, if it is not here yet)" if is_hub_name(model) else ""
    say(f"checking recipe, data and model{from_hub}")
    say_what_was_overridden(config)
    for slip in likely_slips(config):
        say(f"warning: {slip}")
    place_outputs(config)
    set_environment(config)
    tell_workers(config, **variables(typed_job(config), started_at))
    # From here on verl is imported, with the platform that the recipe names.
    settle_platform()
    from fpa_verl.integration.command import preflight
    from fpa_verl.integration.config.kinds import facts_of

    facts = facts_of(config)
    preflight.check(facts)
    for note in preflight.notes(facts):
        say(f"note: {note}")
    return facts


def run(config: DictConfig, started_at: float, verls_main: Callable[[DictConfig], None] | None = None) -> None:
    """Check the recipe, then run verl's own main with it.

    Args:
        config: the configuration as hydra composed it.
        started_at: unix time at which the command was typed.
        verls_main: what starts Ray and the trainer; None: as verl's own does.

    Raises:
        FpaError: the recipe cannot be run as given, or a worker stopped with such an error.
    """
    require_recipe(config)
    if kept.forked_as and not config.forked_workers:
        kept.become_ordinary()
    if runs_in_rounds(config):
        return
    from fpa_verl.integration.command.terminal import Terminal
    from fpa_verl.integration.forkserver.start import forked_workers

    with Terminal(verbose=bool(config.verbose)) as terminal, forked_workers(config):
        facts = prepare(config, started_at)
        if has_work(facts):
            terminal.follow(facts.folder)
            with attended(config, facts, started_at):
                (verls_main or call_verl)(config)
            facts = what_was_made(config)
    facts.kind.report(facts)


def runs_in_rounds(config: DictConfig) -> bool:
    """Do all of it in other processes where the command asks for rounds; whether it does.

    Raises:
        FpaError: it cannot be done, or one of them failed.
    """
    if config.rounds == 1:
        require_no_rounds(config)
        return False
    from fpa_verl.integration.command import rounds

    choose_run_dir(config)
    rounds.run(config, typed_job(config))
    return True


def require_no_rounds(config: DictConfig) -> None:
    """Refuse a run beside the rounds of another, which reports would not see.

    Raises:
        MismatchError: naming the folder.
    """
    folder = OmegaConf.select(config, "run_dir", throw_on_missing=False)
    if folder and has_rounds(Path(folder).expanduser()):
        raise MismatchError(f"{folder} holds a run in rounds: choose run_dir=FOLDER, or type as many rounds as it has")


def has_work(facts: RunFacts) -> bool:
    """Whether something is left to do, on a machine that is free for it.

    Raises:
        FpaError: another run is in its folder, or has this machine's rollout engines.
    """
    from fpa_verl.integration.command import preflight

    if facts.kind.is_done(facts):
        return False
    preflight.require_free_machine(facts)
    return True


def what_was_made(config: DictConfig) -> RunFacts:
    """The facts after a run, which are not those from before it."""
    from fpa_verl.integration.config.kinds import facts_of

    return facts_of(config)


def call_verl(config: DictConfig) -> None:
    """What verl's own main does."""
    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config
    from verl.utils.device import auto_set_device

    auto_set_device(config)
    validate_config(config, need_reference_policy(config), need_critic(config))
    run_ppo(config, task_runner_class=TaskRunnerV1)


@contextmanager
def attended(config: DictConfig, facts: RunFacts, started_at: float) -> Iterator[None]:
    """Around verl's own main: where it begins and on which cluster; what it leaves, and what stopped it.

    Raises:
        FpaError: what stopped it, where that is known.
    """
    import ray

    from fpa_verl.integration.command import resume
    from fpa_verl.integration.safety.failures import first_cause
    from fpa_verl.integration.safety.one_engine import engine_held
    from fpa_verl.integration.safety.shared_memory import Sweeper

    if facts.kind.resumes:
        resume.choose_start(config)
    choose_cluster(config)
    joined = joins_cluster(config)
    say("joining the Ray cluster" if joined else "starting Ray")
    engine = engine_held(facts.folder, joined=joined) if facts.holds_rollout_engine else nullcontext()
    with engine, closed_ledger(facts.folder, started_at):
        try:
            with Sweeper() as sweeper:
                try:
                    yield
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


@contextmanager
def sees_to_itself() -> Iterator[None]:
    """In the block the command itself does what `verls_main.py` does for others."""
    token = OWN_COMMAND.set(True)
    try:
        yield
    finally:
        OWN_COMMAND.reset(token)


class Jobs:
    """The jobs of a command: one, or those of a multirun one after the other.

    Args:
        verls_main: as `run` takes it.
    """

    def __init__(self, verls_main: Callable[[DictConfig], None] | None = None) -> None:
        self._verls_main = verls_main
        self.failed: list[FpaError] = []
        # The first job begins with the process; later ones of a multirun begin when they run.
        self._begins = iter([psutil.Process().create_time()])

    def __call__(self, config: DictConfig) -> None:
        try:
            run(config, next(self._begins, None) or time.time(), self._verls_main)
        except FpaError as error:
            # hydra would print its own trace of it, and the other jobs are to run all the same.
            print(f"error: {error}", file=sys.stderr)
            self.failed.append(error)
        except KeyboardInterrupt:
            print(f"interrupted. {AGAIN}", file=sys.stderr)
            sys.exit(INTERRUPTED)


def each_recipe(arguments: list[str]) -> list[list[str]]:
    """Those of a multirun over recipes, recipe by recipe.

    Before hydra knows the recipe it knows no hardware, model and task, which recipes name, and refuses other ones.
    """
    place = next((i for i, word in enumerate(arguments) if word.startswith("recipe=") and "," in word), None)
    if place is None or not Command.of(arguments).several:
        return [arguments]
    names = arguments[place].partition("=")[2].split(",")
    return [[*arguments[:place], f"recipe={name.strip()}", *arguments[place + 1 :]] for name in names]


def main() -> None:
    """Entry point of `verl.trainer.main`."""
    jobs = Jobs()

    @hydra.main(config_path=VERLS_CONFIG, config_name="main", version_base="1.3")
    def job(config: DictConfig) -> None:
        jobs(config)

    for arguments in each_recipe(sys.argv[1:]):
        sys.argv[1:] = arguments
        try:
            require_choices(Command.of(arguments, MAIN))
        except ConfigError as error:
            sys.exit(f"error: {error}")
        with sees_to_itself():
            job()
    if jobs.failed:
        sys.exit(1)
