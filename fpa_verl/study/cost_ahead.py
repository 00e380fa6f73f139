"""`fpa-verl plan`: what collecting, caching and training would cost, before anybody pays.

    device-seconds of a phase = its tokens / its tokens a device-second

`ASSUMPTIONS` are printed with every plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from fpa_verl.errors import ConfigError, FpaError
from fpa_verl.gpus import Gpu
from fpa_verl.report.comparisons.cost import run_cost
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR
from fpa_verl.runs.names import RUN_FILE
from fpa_verl.runs.run import Run, read_run
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
# At a time, as recipes/hardware/h200x2.yaml has it.
SEQUENCES = 512


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
    """Tokens a device-second: response tokens generated; prompt and response tokens trained and passed forward.

    Attributes:
        estimated: names of those that nobody measured.
    """

    generation: float
    training: float
    forward: float
    estimated: frozenset[str] = frozenset()


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
    collected = work.problems * work.rollouts
    trained = collected * work.trained_share
    visited = trained * work.epochs
    online = work.online_steps * work.online_prompts * work.rollouts

    def phase(side: str, name: str, tokens: float, rate: str) -> Phase:
        return Phase(side, name, tokens, getattr(rates, rate), rate in rates.estimated)

    return [
        phase("offline", "collect", collected * work.response_tokens, "generation"),
        phase("offline", "reference", (trained if cached else visited) * work.tokens, "forward"),
        phase("offline", "training", visited * work.tokens, "training"),
        phase("online", "generation", online * work.response_tokens, "generation"),
        phase("online", "log-probs", online * work.tokens, "forward"),
        phase("online", "training", online * work.tokens, "training"),
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


def runs_alike(folder: Path, gpu: Gpu, model: str) -> tuple[list[Run], list[Path]]:
    """The runs under a folder that trained this model on such GPUs, and the folders of those that cannot be read."""
    found, unread = [], []
    for file in sorted(folder.rglob(RUN_FILE)):
        try:
            run = read_run(file.parent)
        except FpaError:
            unread.append(file.parent)
            continue
        device = (run.info.get("hardware") or {}).get("device") or ""
        if run.info.get("model") == model and gpu.model in device and not run.only_evaluates:
            found.append(run)
    return found, unread


def training_estimate(parameters: float, flops: float, utilisation: float) -> float:
    """Tokens a device-second of forward and backward from the arithmetic: 6 FLOP a parameter and token."""
    return flops * utilisation / (TRAINING_FLOP * parameters)


def generation_estimate(gpu: Gpu, parameters: float, token_bytes: float, tokens: float) -> float:
    """Tokens a device-second by what a step of decoding reads.

    That is the weights in bfloat16, and the keys and values of all that `SEQUENCES` sequences have so far.

    Args:
        gpu: that generates.
        parameters: of the model.
        token_bytes: keys and values of a token.
        tokens: of a sequence, at the middle of it.
    """
    read = 2 * parameters + SEQUENCES * tokens * token_bytes
    return SEQUENCES * READ_SHARE * gpu.bandwidth / read


def said_of_rates(
    rates: Rates, gpu: Gpu, parameters: float, utilisation: float, runs: Sequence[Run], unread: Sequence[Path] = ()
) -> list[str]:
    """Where the rates come from, in words; `unread` are folders of runs that could not be read."""
    said = []
    if runs:
        said.append(f"Rates without ~ are given, or measured by {', '.join(run.name for run in runs)}.")
    if unread:
        said.append(f"Damaged, and left out of what is measured: {', '.join(map(str, unread))}.")
    if "training" in rates.estimated:
        said.append(
            f"~ training: {TRAINING_FLOP} FLOP a token and parameter, {parameters / 1e9:.2f}e9 of them, at "
            f"{utilisation:g} of an {gpu.model}'s peak."
        )
    if "generation" in rates.estimated:
        said.append(
            f"~ generation: weights, and keys and values of {SEQUENCES} sequences, are read for a token of each, at "
            f"{READ_SHARE:g} of an {gpu.model}'s bandwidth."
        )
    return said


def complete(known: dict[str, float], estimates: dict[str, float]) -> Rates:
    """Rates from those known, and estimates of the others; a forward pass takes a third of forward and backward.

    Args:
        known: given, or measured.
        estimates: of generation and training.

    Raises:
        ConfigError: a rate is not positive.
    """
    rates = {**estimates, **known}
    estimated = {name for name in estimates if name not in known}
    if "forward" not in known:
        rates["forward"] = rates["training"] * TRAINING_FLOP / FORWARD_FLOP
        estimated |= {"forward"} if "training" in estimated else set()
    if wrong := [name for name, rate in rates.items() if not rate > 0]:
        raise ConfigError(f"the rate of {', '.join(wrong)} must be above 0 tokens a device-second")
    return Rates(**rates, estimated=frozenset(estimated))


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
