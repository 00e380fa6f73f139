"""`fpa-verl plan`: what collecting, caching and training would cost, before anybody pays.

    device-seconds of a phase = its tokens / its tokens a device-second

`ASSUMPTIONS` are printed with every plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR
from fpa_verl.study.rates import Rates
from fpa_verl.tables import Table, time_unit

ASSUMPTIONS = (
    "Responses are as long during training as the mean given; all of a batch's tokens are trained on.",
    "Problems that are held out get no rollouts. The offline run goes through the trained trajectories `epochs` times; "
    "`trained_share` of the collected ones are in groups with both right and wrong answers and so are trained on.",
    "FPA pays a forward pass of the reference over the same tokens, in the step or once for a cache; with a cache the "
    "training steps pay none.",
    "An online step generates, passes the policy of the step before over its tokens once, and trains on them once.",
    "A forward pass takes a third of forward and backward, where no rate of its own is given.",
    "Start-up, evaluation, weight sync and checkpoints come on top; idle devices are in neither.",
)
# Of a step of GRPO: Table 4's "global batch", which counts prompts, or trajectories.
BATCH = 128
# Sides of a plan.
OFFLINE, ONLINE = "offline", "online"


@dataclass(frozen=True)
class Workload:
    """What is to be done; the defaults are the paper's (arXiv 2509.19893, Tables 3 and 4), tokens apart.

    Attributes:
        response_tokens, prompt_tokens: means.
        problems: those held out included.
        held_out: part of the problems that never train.
        trained_share: part of the collected trajectories that trains.
        online_prompts: a step, each with as many rollouts as the offline dataset has a problem.
    """

    response_tokens: float
    prompt_tokens: float = 150.0
    problems: int = 12_000
    held_out: float = 0.05
    rollouts: int = 8
    trained_share: float = 1.0
    epochs: float = 3.0
    online_steps: int = 1_500
    online_prompts: int = 128

    @property
    def tokens(self) -> float:
        """Length of a trajectory, the prompt included."""
        return self.prompt_tokens + self.response_tokens

    @property
    def middle(self) -> float:
        """Tokens of a sequence half of whose response is there."""
        return self.prompt_tokens + self.response_tokens / 2

    @property
    def validation_problems(self) -> int:
        """How many problems are held out."""
        return round(self.problems * self.held_out)

    @property
    def collected(self) -> int:
        """Trajectories that are collected: of the problems that train."""
        return (self.problems - self.validation_problems) * self.rollouts

    @property
    def trained(self) -> float:
        """Of those collected, the trajectories that train."""
        return self.collected * self.trained_share


@dataclass(frozen=True)
class Phase:
    """A line of the plan.

    Attributes:
        rate: tokens a device-second.
        is_estimated: nobody measured that rate.
    """

    side: str
    name: str
    tokens: float
    rate: float
    is_estimated: bool = False

    @property
    def device_hours(self) -> float:
        return self.tokens / self.rate / SECONDS_PER_HOUR


def plan(work: Workload, rates: Rates, *, cached: bool = False) -> list[Phase]:
    """The phases of FPA offline, its dataset in front, and of GRPO online.

    Args:
        work: what is to be done.
        rates: how fast.
        cached: the reference is computed once for all trajectories, and not in every step.
    """
    visited = work.trained * work.epochs
    online = work.online_steps * work.online_prompts * work.rollouts

    def phase(side: str, name: str, tokens: float, rate: str) -> Phase:
        return Phase(side, name, tokens, getattr(rates, rate), rate in rates.estimated)

    return [
        phase(OFFLINE, "collect", work.collected * work.response_tokens, "generation"),
        phase(OFFLINE, "reference", (work.trained if cached else visited) * work.tokens, "forward"),
        phase(OFFLINE, "training", visited * work.tokens, "training"),
        phase(ONLINE, "generation", online * work.response_tokens, "generation"),
        phase(ONLINE, "log-probs", online * work.tokens, "forward"),
        phase(ONLINE, "training", online * work.tokens, "training"),
    ]


def readings(rollouts: int) -> list[int]:
    """Prompts a step of GRPO as the paper can be read, with groups of so many."""
    return [BATCH, max(1, BATCH // rollouts)]


def plans(works: Sequence[Workload], rates: Rates, *, cached: bool = False) -> list[Phase]:
    """Of workloads that differ in their online prompts: the offline side once, and the online side of each."""
    first, *others = works
    if not others:
        return plan(first, rates, cached=cached)
    offline = [phase for phase in plan(first, rates, cached=cached) if phase.side == OFFLINE]
    online = [
        replace(phase, side=f"{ONLINE}, {work.online_prompts} prompts a step")
        for work in works
        for phase in plan(work, rates, cached=cached)
        if phase.side == ONLINE
    ]
    return offline + online


def as_table(phases: list[Phase], devices: int) -> Table:
    """A line a phase and the sum of each side: device-time, and time on so many devices."""
    sides = {phase.side: [one for one in phases if one.side == phase.side] for phase in phases}
    totals = {side: sum(phase.device_hours for phase in of_side) for side, of_side in sides.items()}
    _, unit, scale = time_unit(max(totals.values()))

    def times(device_hours: float) -> list[str]:
        return [f"{scale * device_hours:,.2f}", f"{scale * device_hours / devices:,.2f}"]

    rows = []
    for side, of_side in sides.items():
        for phase in of_side:
            about = "~" if phase.is_estimated else ""
            amount = [f"{phase.tokens / 1e6:,.2f}", f"{about}{phase.rate:,.0f}"]
            rows.append([f"{side}: {phase.name}", *amount, *times(phase.device_hours)])
        rows.append([f"{side}, all", "", "", *times(totals[side])])
    held = "1 device" if devices == 1 else f"{devices} devices"
    header = ["phase", "M tokens", "a device-s", f"device-{unit}", unit]
    return Table(f"Expected cost, and {unit} on {held}", header, rows)
