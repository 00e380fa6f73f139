"""`fpa-verl plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from fpa_verl.cli.console import console


def plan(
    response_tokens: Annotated[float, typer.Option(help="Mean length of a response.")],
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
) -> None:
    """What collecting, offline and online training would cost, from rates given or measured. Workload: the paper's."""
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
