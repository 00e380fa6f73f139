"""`fpa-verl plan`: what collecting, caching and training would cost, before anybody pays.

    device-seconds of a phase = its tokens / its tokens a device-second

`ASSUMPTIONS` are printed with every plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

from fpa_verl.errors import ConfigError
from fpa_verl.gpus import Gpu
from fpa_verl.report.comparisons.cost import run_cost
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR
from fpa_verl.runs.run import Run
from fpa_verl.tables import Table, time_unit

ASSUMPTIONS = (
    "Responses are as long during training as the mean given; all of a batch's tokens are trained on.",
    "The offline run goes through the trained trajectories `epochs` times; `trained_share` of the collected ones are "
    "in groups with both right and wrong answers and so are trained on.",
    "FPA pays a forward pass of the reference over the same tokens, in the step or once for a cache; with a cache the "
    "training steps pay none.",
    "An online step generates, passes the policy of the step before over its tokens once, and trains on them once.",
    "A forward pass takes a third of forward and backward, where no rate of its own is given.",
    "Start-up, evaluation, weight sync and checkpoints come on top; idle devices are in neither.",
)
# Of a step of GRPO: Table 4's "global batch", which counts prompts, or trajectories.
BATCH = 128
# FLOP a token and parameter: 2 forward, 4 backward.
FORWARD_FLOP, TRAINING_FLOP = 2, 6
# Of its memory's bandwidth, what a device generating reaches: assumed.
READ_SHARE = 0.35


@dataclass(frozen=True)
class Workload:
    """What is to be done; the defaults are the paper's (arXiv 2509.19893, Tables 3 and 4), tokens apart.

    Attributes:
        response_tokens, prompt_tokens: means.
        trained_share: part of the collected trajectories that trains.
        online_prompts: a step, each with as many rollouts as the offline dataset has a problem.
    """

    response_tokens: float
    prompt_tokens: float = 150.0
    problems: int = 12_000
    rollouts: int = 8
    trained_share: float = 1.0
    epochs: float = 3.0
    online_steps: int = 1_500
    online_prompts: int = 128

    @property
    def tokens(self) -> float:
        """Length of a trajectory, the prompt included."""
        return self.prompt_tokens + self.response_tokens


@dataclass(frozen=True)
class Rates:
    """Tokens a device-second: response tokens generated; prompt and response tokens trained and passed forward."""

    generation: float
    training: float
    forward: float


@dataclass(frozen=True)
class Phase:
    """A line of the plan."""

    side: str
    name: str
    tokens: float
    rate: float

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
    collected = work.problems * work.rollouts
    trained = collected * work.trained_share
    visited = trained * work.epochs
    online = work.online_steps * work.online_prompts * work.rollouts
    return [
        Phase("offline", "collect", collected * work.response_tokens, rates.generation),
        Phase("offline", "reference", (trained if cached else visited) * work.tokens, rates.forward),
        Phase("offline", "training", visited * work.tokens, rates.training),
        Phase("online", "generation", online * work.response_tokens, rates.generation),
        Phase("online", "log-probs", online * work.tokens, rates.forward),
        Phase("online", "training", online * work.tokens, rates.training),
    ]


def readings(rollouts: int) -> list[int]:
    """Prompts a step of GRPO as the paper can be read, with groups of so many."""
    return [BATCH, max(1, BATCH // rollouts)]


def plans(works: Sequence[Workload], rates: Rates, *, cached: bool = False) -> list[Phase]:
    """Of workloads that differ in their online prompts: the offline side once, and the online side of each."""
    first, *others = works
    if not others:
        return plan(first, rates, cached=cached)
    offline = [phase for phase in plan(first, rates, cached=cached) if phase.side == "offline"]
    online = [
        replace(phase, side=f"online, {work.online_prompts} prompts a step")
        for work in works
        for phase in plan(work, rates, cached=cached)
        if phase.side == "online"
    ]
    return offline + online


def measured_rates(runs: Sequence[Run]) -> dict[str, float]:
    """Mean rates of what runs recorded: generation, and training over the tokens of prompt and response."""
    costs = [run_cost(run) for run in runs]
    found = {
        "generation": [cost.generation_rate for cost in costs if cost.generation_rate],
        "training": [cost.training_rate for cost in costs if cost.training_rate],
    }
    return {name: mean(values) for name, values in found.items() if values}


def model_rates(parameters: float, flops: float, utilisation: float) -> dict[str, float]:
    """Rates of training and forward passes from the arithmetic: 6 and 2 FLOP a parameter and token."""
    used = flops * utilisation
    return {"training": used / (TRAINING_FLOP * parameters), "forward": used / (FORWARD_FLOP * parameters)}


def generation_estimate(gpu: Gpu, parameters: float, token_bytes: float, tokens: float, sequences: int) -> float:
    """Tokens a device-second of so many sequences at a time, by what a step of decoding reads.

    That is the weights in bfloat16, and the keys and values of all that the sequences have so far.

    Args:
        gpu: that generates.
        parameters: of the model.
        token_bytes: keys and values of a token.
        tokens: of a sequence, at the middle of it.
        sequences: at a time.
    """
    read = 2 * parameters + sequences * tokens * token_bytes
    return sequences * READ_SHARE * gpu.bandwidth / read


def complete(known: dict[str, float]) -> Rates:
    """Rates from those known; a forward pass takes a third of forward and backward.

    Raises:
        ConfigError: generation or training is missing, or a rate is not positive.
    """
    for name in ("generation", "training"):
        if name not in known:
            raise ConfigError(
                f"no rate of {name}: give --{name}-rate (tokens a device-second), or --like RUNS that measured it"
                + (", or --parameters, --flops and --utilisation" if name == "training" else "")
            )
    rates = {"forward": known["training"] * TRAINING_FLOP / FORWARD_FLOP, **known}
    if wrong := [name for name, rate in rates.items() if not rate > 0]:
        raise ConfigError(f"the rate of {', '.join(wrong)} must be above 0 tokens a device-second")
    return Rates(**rates)


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
            amount = [f"{phase.tokens / 1e6:,.2f}", f"{phase.rate:,.0f}"]
            rows.append([f"{side}: {phase.name}", *amount, *times(phase.device_hours)])
        rows.append([f"{side}, all", "", "", *times(totals[side])])
    held = "1 device" if devices == 1 else f"{devices} devices"
    header = ["phase", "M tokens", "a device-s", f"device-{unit}", unit]
    return Table(f"Expected cost, and {unit} on {held}", header, rows)
