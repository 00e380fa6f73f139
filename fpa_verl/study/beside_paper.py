"""A plan of the paper's own workload beside the hours that the paper gives, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fpa_verl.gpus import Gpu
from fpa_verl.report.paper.hours import FPA, GRPO
from fpa_verl.report.paper.published import figure6
from fpa_verl.study.cost_ahead import OFFLINE, Phase, Workload
from fpa_verl.tables import Table


def paper_table(work: Workload, phases: Sequence[Phase], model: str, gpu: Gpu, devices: int) -> Table | None:
    """The hours of Figure 6's text and the plan's; None where the plan is of another workload, model or machine.

    Args:
        work: that was planned; lengths, the share that trains and the prompts of an online step, which the paper does
            not state, may be any.
        phases: the plan's.
        model: folder or Hugging Face name.
        gpu: planned for.
        devices: held.
    """
    published = figure6()
    stated = replace(
        Workload(work.response_tokens, work.prompt_tokens, trained_share=work.trained_share),
        online_prompts=work.online_prompts,
    )
    machine = (model.rpartition("/")[2], devices) == (published.model, published.devices) and gpu.is_a(published.device)
    if work != stated or not machine:
        return None

    def line(name: str, papers: float, of: list[Phase]) -> list[str]:
        hours = sum(phase.device_hours for phase in of) / devices
        return [name, f"{papers:g}", f"{hours:.2f}", f"{hours / papers:.2f}"]

    offline = [phase for phase in phases if phase.side == OFFLINE]
    collecting = [phase for phase in offline if phase.name == "collect"]
    training = [phase for phase in offline if phase.name != "collect"]
    whole = published.hours[FPA]
    rows = [
        line("offline: collecting", published.collecting, collecting),
        line("offline: training, the reference in it", whole - published.collecting, training),
        line("offline, all", whole, offline),
    ]
    rows += [
        line(side, published.hours[GRPO], [phase for phase in phases if phase.side == side])
        for side in dict.fromkeys(phase.side for phase in phases if phase.side != OFFLINE)
    ]
    caption = (
        f"The paper's hours, until {100 * published.target:.0f} % on MATH500, and this plan's. It states neither "
        "lengths nor rates, nor whether start-up and evaluations are in them"
    )
    return Table(caption, ["", "paper", "plan", "plan / paper"], rows)
