"""`fpa-verl plan`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from fpa_verl.cli.console import console
from fpa_verl.errors import ConfigError
from fpa_verl.install import GPU


def plan(
    response_tokens: Annotated[
        float | None, typer.Option(help="Mean length of a response; needed without --memory.")
    ] = None,
    prompt_tokens: Annotated[float, typer.Option(help="Mean length of a prompt.")] = 150.0,
    problems: Annotated[int, typer.Option(help="Training problems.")] = 12_000,
    rollouts: Annotated[int, typer.Option(help="Rollouts a problem.")] = 8,
    trained_share: Annotated[
        float, typer.Option(help="Share of trajectories in groups with right and wrong ones.")
    ] = 1.0,
    epochs: Annotated[float, typer.Option(help="Times that the offline run goes through them.")] = 3.0,
    online_steps: Annotated[int, typer.Option(help="Steps of GRPO.")] = 1_500,
    online_prompts: Annotated[
        list[int] | None,
        typer.Option(help="Prompts a step of GRPO; may be repeated. Default: 128 prompts, or trajectories (Table 4)."),
    ] = None,
    devices: Annotated[int, typer.Option(help="Devices held.")] = 2,
    cached: Annotated[bool, typer.Option(help="The reference is computed once (recipe=cache_reference).")] = False,
    like: Annotated[list[str] | None, typer.Option(help="Runs whose measured rates to take; may be repeated.")] = None,
    generation_rate: Annotated[float | None, typer.Option(help="Tokens a device-second.")] = None,
    training_rate: Annotated[float | None, typer.Option(help="Tokens a device-second, forward and backward.")] = None,
    forward_rate: Annotated[float | None, typer.Option(help="Tokens a device-second; default: 3 x training.")] = None,
    parameters: Annotated[float | None, typer.Option(help="Of the model, for rates from FLOP: 4e9.")] = None,
    flops: Annotated[
        float, typer.Option(help="Peak of a device in FLOP/s; default: H200, BF16, dense, as its data sheet says.")
    ] = 989e12,
    utilisation: Annotated[float, typer.Option(help="Share of the peak that training reaches.")] = 0.4,
    memory: Annotated[
        bool, typer.Option("--memory", help="Print no cost, but the memory of a step, and the GPUs that it fits on.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Of --memory: folder or Hugging Face name; default: the recipes'.")
    ] = None,
    micro_batch_tokens: Annotated[
        int | None, typer.Option(help="Of --memory: tokens of a micro-batch on a GPU; default: the recipes'.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option(help="Of --memory: KEY=VALUE for every recipe; may be repeated.")
    ] = None,
) -> None:
    """What collecting, offline and online training would cost, from rates given or measured; or their memory.

    The workload is the paper's.
    """
    if memory:
        print_memory(model, sorted({1, devices}), micro_batch_tokens, override or [])
        return
    if response_tokens is None:
        raise ConfigError("give --response-tokens, the mean length of a response; or --memory alone")
    from fpa_verl import tables
    from fpa_verl.runs.find import find_runs
    from fpa_verl.study.cost_ahead import (
        ASSUMPTIONS,
        Workload,
        as_table,
        complete,
        measured_rates,
        model_rates,
        plans,
        readings,
    )

    works = [
        Workload(response_tokens, prompt_tokens, problems, rollouts, trained_share, epochs, online_steps, prompts)
        for prompts in dict.fromkeys(online_prompts or readings(rollouts))
    ]
    given = {"generation": generation_rate, "training": training_rate, "forward": forward_rate}
    rates = complete(
        {
            **(model_rates(parameters, flops, utilisation) if parameters else {}),
            **(measured_rates(find_runs(like)) if like else {}),
            **{name: rate for name, rate in given.items() if rate is not None},
        }
    )
    console.print(tables.for_terminal(as_table(plans(works, rates, cached=cached), devices)))
    for number, assumption in enumerate(ASSUMPTIONS, start=1):
        console.print(f"{number}. {assumption}", highlight=False)


def print_memory(model: str | None, devices: list[int], micro_batch_tokens: int | None, overrides: list[str]) -> None:
    """Print what a step of each recipe takes on so many GPUs, and on which it fits."""
    if find_spec("verl") is None:
        raise ConfigError(f"--memory runs verl's engine, which is not installed: {GPU}, or `make setup` without a GPU")
    from fpa_verl import tables
    from fpa_verl.commands import Command, override
    from fpa_verl.integration.command.compose import composed
    from fpa_verl.integration.memory.fits import ASSUMPTIONS, fits_table, steps_table
    from fpa_verl.integration.memory.models import configuration
    from fpa_verl.integration.memory.planning import RECIPES, planned

    if model:
        overrides = [override("actor_rollout_ref.model.path", model), *overrides]
    if micro_batch_tokens:
        overrides = [f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={micro_batch_tokens}", *overrides]
    configs = [(name, composed(Command(overrides=(*words, *overrides)))[0]) for name, words in RECIPES]
    path = str(configs[0][1].actor_rollout_ref.model.path)
    hf_config = configuration(path)
    with console.status("running steps on tensors without data (some two minutes on two cores)"):
        found = planned(configs, hf_config, devices)
    tokens = sorted({int(config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu) for _, config in configs})
    what = f"{path}, micro-batches of {' or '.join(f'{number:,}' for number in tokens)} tokens"
    for table in (steps_table(found, what), fits_table(found)):
        console.print(tables.for_terminal(table))
    for number, assumption in enumerate(ASSUMPTIONS, start=1):
        console.print(f"{number}. {assumption}", highlight=False)
