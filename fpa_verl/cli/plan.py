"""`fpa-verl plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fpa_verl import install
from fpa_verl.cli.console import console, quiet
from fpa_verl.errors import ConfigError


def plan(
    response_tokens: Annotated[
        float,
        typer.Option(min=1, help="Mean length of a response; the default is a guess."),
    ] = 650.0,
    prompt_tokens: Annotated[float, typer.Option(min=0, help="Mean length of a prompt.")] = 150.0,
    problems: Annotated[int, typer.Option(min=1, help="Training problems.")] = 12_000,
    rollouts: Annotated[int, typer.Option(min=1, help="Rollouts a problem.")] = 8,
    trained_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of trajectories in groups with right and wrong ones.")
    ] = 1.0,
    epochs: Annotated[float, typer.Option(min=0, help="Times that the offline run goes through them.")] = 3.0,
    online_steps: Annotated[int, typer.Option(min=0, help="Steps of GRPO.")] = 1_500,
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
        float | None, typer.Option(min=1, help="Of the model, those that a token goes through; default: counted.")
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
    from fpa_verl import tables
    from fpa_verl.gpus import gpu_named
    from fpa_verl.runs.find import find_runs
    from fpa_verl.study import cost_ahead, evening

    on = gpu_named(gpu or "h200")
    works = [
        cost_ahead.Workload(
            response_tokens, prompt_tokens, problems, rollouts, trained_share, epochs, online_steps, prompts
        )
        for prompts in dict.fromkeys(online_prompts or cost_ahead.readings(rollouts))
    ]
    runs, unread = (find_runs(like), []) if like else cost_ahead.runs_alike(Path("runs"), on, model)
    given = {"generation": generation_rate, "training": training_rate, "forward": forward_rate}
    known = {**cost_ahead.measured_rates(runs), **{name: rate for name, rate in given.items() if rate is not None}}
    count, token_bytes = sizes_for(model, parameters, generates="generation" not in known)
    half = works[0].prompt_tokens + works[0].response_tokens / 2
    rates = cost_ahead.complete(
        known,
        {
            "generation": cost_ahead.generation_estimate(on, count, token_bytes, half),
            "training": cost_ahead.training_estimate(count, flops or on.flops, utilisation),
        },
    )
    phases = cost_ahead.plans(works, rates, cached=cached)
    stops = evening.stops(works[0], rates, count, devices, cached=cached)
    for table in (cost_ahead.as_table(phases, devices), evening.evening_table(phases, stops, devices)):
        console.print(tables.for_terminal(table))
    sources = cost_ahead.said_of_rates(rates, on, count, utilisation, runs, unread)
    for number, assumption in enumerate([*cost_ahead.ASSUMPTIONS, *evening.ASSUMED, *sources], start=1):
        console.print(f"{number}. {assumption}", highlight=False)


def sizes_for(model: str, parameters: float | None, *, generates: bool) -> tuple[float, float]:
    """Parameters of a model, and bytes of a token's keys and values, of which a rate of generation is made.

    Nothing is asked of the model that is given already.

    Args:
        model: folder or Hugging Face name.
        parameters: where they are given.
        generates: whether a rate of generation is to be made; the bytes are 0 where not.
    """
    if parameters and not generates:
        return parameters, 0.0
    install.require("torch", "transformers")
    from fpa_verl.integration.memory.models import configuration, parameters_in, token_bytes

    found = configuration(model)
    return parameters or parameters_in(found, model), token_bytes(found, model) if generates else 0.0


def print_memory(
    model: str, devices: list[int], micro_batch_tokens: int | None, overrides: list[str], gpu: str | None
) -> None:
    """Print what a step of each recipe takes on so many GPUs, and on which it fits, or whether on the one named."""
    install.require("torch", "transformers", "verl")
    from fpa_verl import tables
    from fpa_verl.commands import Command, override
    from fpa_verl.gpus import GPUS, gpu_named
    from fpa_verl.integration.command.compose import composed
    from fpa_verl.integration.memory.fits import ASSUMPTIONS, fits_table, steps_table
    from fpa_verl.integration.memory.models import reckonable
    from fpa_verl.integration.memory.planning import RECIPES, planned

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
