"""`fpa-verl plan`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fpa_verl import install
from fpa_verl.cli.console import console, quiet
from fpa_verl.errors import ConfigError, FpaError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from fpa_verl.gpus import Gpu
    from fpa_verl.study.cost_ahead import Workload
    from fpa_verl.study.rates import Rates
    from fpa_verl.study.room import ModelSize


def plan(
    response_tokens: Annotated[
        float,
        typer.Option(min=1, help="Mean length of a response; the default is a guess."),
    ] = 650.0,
    prompt_tokens: Annotated[float, typer.Option(min=0, help="Mean length of a prompt.")] = 150.0,
    problems: Annotated[int, typer.Option(min=1, help="Problems, those held out included.")] = 12_000,
    held_out: Annotated[float, typer.Option(min=0, max=0.99, help="Share of the problems that never train.")] = 0.05,
    rollouts: Annotated[int, typer.Option(min=1, help="Rollouts a problem.")] = 8,
    trained_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of trajectories in groups with right and wrong ones.")
    ] = 1.0,
    epochs: Annotated[float, typer.Option(min=0.01, help="Times that the offline run goes through them.")] = 3.0,
    online_steps: Annotated[int, typer.Option(min=1, help="Steps of GRPO.")] = 1_500,
    online_prompts: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Prompts a step of GRPO; may be repeated. Default: 128 prompts, or trajectories (Table 4)."
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Folder or Hugging Face name.")] = "Qwen/Qwen3-4B-Base",
    gpu: Annotated[
        str | None,
        typer.Option(
            help="h200, h100 or a100: whose data sheet estimates are made from; default: h200. "
            "Of --memory: the one to look at; default: all."
        ),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Devices held.")] = 2,
    cached: Annotated[bool, typer.Option(help="The reference is computed once (recipe=cache_reference).")] = False,
    like: Annotated[
        list[str] | None,
        typer.Option(help="Runs whose measured rates to take; may be repeated. Default: of runs/, those alike."),
    ] = None,
    generation_rate: Annotated[float | None, typer.Option(help="Tokens a device-second.")] = None,
    training_rate: Annotated[float | None, typer.Option(help="Tokens a device-second, forward and backward.")] = None,
    forward_rate: Annotated[float | None, typer.Option(help="Tokens a device-second; default: 3 x training.")] = None,
    parameters: Annotated[
        float | None,
        typer.Option(min=1, help="Of the model, those that a token goes through; default: all, counted."),
    ] = None,
    flops: Annotated[float | None, typer.Option(min=1, help="Peak of a device in FLOP/s; default: the GPU's.")] = None,
    utilisation: Annotated[float, typer.Option(min=0, max=1, help="Share of the peak that training reaches.")] = 0.4,
    memory: Annotated[
        bool, typer.Option("--memory", help="Print no cost, but the memory of a step, and the GPUs that it fits on.")
    ] = False,
    micro_batch_tokens: Annotated[
        int | None, typer.Option(min=16, help="Of --memory: tokens of a micro-batch on a GPU; default: the recipes'.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option(help="Of --memory: KEY=VALUE for every recipe; may be repeated.")
    ] = None,
) -> None:
    """What collecting, offline and online training would cost, and how long the evening is; or their memory.

    The workload is the paper's. A rate that nobody gave and no run measured is an estimate, and has a ~ in front.
    """
    if memory:
        print_memory(model, sorted({1, devices}), micro_batch_tokens, override or [], gpu)
        return
    if micro_batch_tokens or override:
        raise ConfigError("--micro-batch-tokens and --override change the memory of a step alone: add --memory")
    from fpa_verl.gpus import gpu_named
    from fpa_verl.runs.find import find_runs
    from fpa_verl.study import cost_ahead, rates

    on = gpu_named(gpu or "h200")
    works = [
        cost_ahead.Workload(
            response_tokens,
            prompt_tokens,
            problems=problems,
            held_out=held_out,
            rollouts=rollouts,
            trained_share=trained_share,
            epochs=epochs,
            online_steps=online_steps,
            online_prompts=prompts,
        )
        for prompts in dict.fromkeys(online_prompts or cost_ahead.readings(rollouts))
    ]
    runs, unread = (find_runs(like), []) if like else rates.runs_alike(Path("runs"), on, model)
    measured = rates.measured(runs)
    given = {"generation": generation_rate, "training": training_rate, "forward": forward_rate}
    known = {**measured.rates, **{name: rate for name, rate in given.items() if rate is not None}}
    size = size_of(model, parameters, None if "generation" in known else works[0].middle)
    estimates = {"training": rates.training_estimate(size.gone_through, flops or on.flops, utilisation)}
    if "generation" not in known:
        estimates["generation"] = rates.generation_estimate(on, size)
    found = rates.complete(known, estimates)
    sources = [
        *(
            [f"--parameters, {size.parameters / 1e9:.2f}e9, is taken for all weights."]
            * (parameters == size.parameters)
        ),
        *measured.said,
        *([f"Damaged, and left out of what is measured: {', '.join(map(str, unread))}."] * bool(unread)),
        *rates.said_of_estimates(found, on, size, utilisation),
    ]
    print_cost(works, found, size, model, on, devices, sources, cached=cached)


def print_cost(
    works: Sequence[Workload],
    rates: Rates,
    size: ModelSize,
    model: str,
    gpu: Gpu,
    devices: int,
    sources: Sequence[str],
    *,
    cached: bool,
) -> None:
    """Print a plan of workloads that differ in their online prompts; `sources` says where its rates come from."""
    from fpa_verl import tables
    from fpa_verl.study import cost_ahead, evening, room
    from fpa_verl.study.beside_paper import paper_table

    phases = cost_ahead.plans(works, rates, cached=cached)
    stops = evening.stops(works[0], rates, size.parameters, devices, cached=cached)
    if misfit := room.misfit(gpu, size, devices):
        console.print(misfit, highlight=False)
    for table in (
        cost_ahead.as_table(phases, devices),
        evening.evening_table(phases, stops, devices),
        paper_table(works[0], phases, model, gpu, devices),
    ):
        if table:
            console.print(tables.for_terminal(table))
    said = [*cost_ahead.ASSUMPTIONS, *evening.assumed(size.parameters), *sources]
    for number, assumption in enumerate(said, start=1):
        console.print(f"{number}. {assumption}", highlight=False)


def size_of(model: str, parameters: float | None, tokens: float | None) -> ModelSize:
    """The sizes of a model that a plan is made of.

    Args:
        model: folder or Hugging Face name.
        parameters: those that a token goes through, where they are given. They are taken for all that there are, unless
            the model's configuration says that it chooses experts, and all can be counted.
        tokens: of a sequence whose keys and values are to be counted; None where none are.

    Raises:
        ConfigError: what is neither given nor to be counted, and with which option to give it.
    """
    from fpa_verl.study.room import ModelSize

    try:
        install.require("torch", "transformers")
        from fpa_verl.integration.memory.models import configuration

        # The hub's library would tell of each time that it tries.
        with quiet():
            found = configuration(model)
    except FpaError:
        if parameters is None or tokens is not None:
            raise
        return ModelSize(parameters, parameters)
    from fpa_verl.integration.memory.kept import sequence_bytes

    everything = all_parameters(found, model, parameters)
    kept = 0.0 if tokens is None else sequence_bytes(found, model, tokens)
    return ModelSize(everything, parameters or everything, kept)


def all_parameters(found: PretrainedConfig, model: str, given: float | None) -> float:
    """How many a model of this configuration has, where so many are given, or none.

    Raises:
        ConfigError: none are given, and they cannot be counted, or are not those that a token goes through.
    """
    from fpa_verl.integration.memory.models import has_experts, parameters_in

    chooses = has_experts(found)
    if given is None and chooses:
        raise ConfigError(f"{model} chooses experts token by token: give --parameters, those that a token goes through")
    if given is not None and not chooses:
        return given
    try:
        return parameters_in(found, model)
    except ConfigError:
        if given is None:
            raise
        return given


def print_memory(
    model: str, devices: list[int], micro_batch_tokens: int | None, overrides: list[str], gpu: str | None
) -> None:
    """Print what a step of each recipe takes on so many GPUs, and on which it fits, or whether on the one named."""
    install.require("torch", "transformers", "verl")
    from fpa_verl import tables
    from fpa_verl.commands import Command, key_of, override
    from fpa_verl.gpus import GPUS, gpu_named
    from fpa_verl.integration.command.compose import composed
    from fpa_verl.integration.memory.fits import ASSUMPTIONS, fits_table, steps_table
    from fpa_verl.integration.memory.models import reckonable
    from fpa_verl.integration.memory.planning import RECIPES, planned

    for word in overrides:
        if key_of(word) in ("trainer.n_gpus_per_node", "trainer.nnodes"):
            raise ConfigError(f"--override {word}: numbers of GPUs are --devices' to name")
    gpus = [gpu_named(gpu)] if gpu else GPUS
    overrides = [override("actor_rollout_ref.model.path", model), *overrides]
    if micro_batch_tokens:
        overrides = [f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={micro_batch_tokens}", *overrides]
    with console.status("running steps on tensors without data (some two minutes on two cores)"), quiet():
        configs = [(name, composed(Command(overrides=(*words, *overrides))).config) for name, words in RECIPES]
        path = str(configs[0][1].actor_rollout_ref.model.path)
        found = planned(configs, reckonable(path), devices)
    tokens = sorted({int(config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu) for _, config in configs})
    what = f"{path}, micro-batches of {' or '.join(f'{number:,}' for number in tokens)} tokens"
    for table in (steps_table(found, what), fits_table(found, gpus)):
        console.print(tables.for_terminal(table))
    for number, assumption in enumerate(ASSUMPTIONS, start=1):
        console.print(f"{number}. {assumption}", highlight=False)
