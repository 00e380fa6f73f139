"""How fast tokens go: measured by runs, or estimated from a GPU's data sheet and a model's sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from fpa_verl.errors import ConfigError, FpaError
from fpa_verl.gpus import Gpu
from fpa_verl.report.comparisons.cost import RunCost, run_cost
from fpa_verl.runs.names import RUN_FILE
from fpa_verl.runs.run import Run, read_run
from fpa_verl.study.room import SERVED, ModelSize, sequences_at_once

# FLOP a token and parameter: 2 forward, 4 backward.
FORWARD_FLOP, TRAINING_FLOP = 2, 6
# Of its memory's bandwidth, what a device generating reaches: assumed.
READ_SHARE = 0.35


@dataclass(frozen=True)
class Rates:
    """Tokens a device-second: response tokens generated; prompt and response tokens trained and passed forward.

    Attributes:
        training: forward and backward of the policy, and no other pass.
        estimated: names of those that nobody measured.
    """

    generation: float
    training: float
    forward: float
    estimated: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Measured:
    """What runs recorded.

    Attributes:
        rates: by the name of `Rates`; those that no run tells are not there.
        said: which runs they are of, what was taken off, and who was left out, in words.
    """

    rates: dict[str, float] = field(default_factory=dict)
    said: tuple[str, ...] = ()


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
        if run.info.get("model") == model and gpu.is_a(device) and not run.only_evaluates:
            found.append(run)
    return found, unread


def measured(runs: Sequence[Run]) -> Measured:
    """Mean rates of what runs recorded: generation, and training over the tokens of prompt and response.

    A step of FPA passes the reference forward as well, and a plan has a line for that. Runs whose steps have no such
    pass tell the rate of training; where there are none it is taken off from the others. Runs with an adapter tell
    nothing, for a plan is of all weights.
    """
    adapters = [run for run in runs if run.trains_adapter]
    costs = [run_cost(run) for run in runs if not run.trains_adapter]
    generating = [cost for cost in costs if cost.generation_rate]
    training = [cost for cost in costs if cost.training_rate and cost.run.forward_passes is not None]
    training = [cost for cost in training if not cost.run.forward_passes] or training
    told = {
        "generation": [cost.generation_rate for cost in generating if cost.generation_rate],
        "training": [policy_rate(cost) for cost in training],
    }
    used = [cost.run for cost in costs if cost in generating or cost in training]
    taken_off = [cost.run for cost in training if cost.run.forward_passes]
    silent = [cost.run for cost in costs if cost.training_rate and cost.run.forward_passes is None]
    said = (
        ("Rates without ~ are given, or measured by {}.", used),
        (
            "Of {} the forward passes within a training step were taken off, each for a third of forward and backward.",
            taken_off,
        ),
        ("Left out of the rate of training, for not saying what passes a step has: {}.", silent),
        ("Left out of what is measured, for training an adapter alone: {}.", adapters),
    )
    return Measured(
        {name: mean(values) for name, values in told.items() if values},
        tuple(words.format(", ".join(run.name for run in of)) for words, of in said if of),
    )


def policy_rate(cost: RunCost) -> float:
    """Tokens a device-second of a run's training steps, had they no pass but the policy's forward and backward."""
    assert cost.training_rate is not None
    assert cost.run.forward_passes is not None
    return cost.training_rate * (1 + cost.run.forward_passes * FORWARD_FLOP / TRAINING_FLOP)


def training_estimate(gone_through: float, flops: float, utilisation: float) -> float:
    """Tokens a device-second of forward and backward: 6 FLOP a token and parameter that it goes through."""
    return flops * utilisation / (TRAINING_FLOP * gone_through)


def generation_estimate(gpu: Gpu, size: ModelSize) -> float:
    """Tokens a device-second by what a step of decoding reads.

    That is all weights in bfloat16, those of every expert as well, for so many sequences choose them all; and the keys
    and values of all that the sequences have so far.

    Raises:
        ConfigError: the GPU has no room for weights and a sequence.
    """
    sequences = sequences_at_once(gpu, size)
    read = SERVED * size.parameters + sequences * size.sequence_bytes
    return sequences * READ_SHARE * gpu.bandwidth / read


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


def said_of_estimates(rates: Rates, gpu: Gpu, size: ModelSize, utilisation: float) -> list[str]:
    """What was reckoned with where nobody measured, in words."""
    said = []
    if "training" in rates.estimated:
        said.append(
            f"~ training: {TRAINING_FLOP} FLOP a token and parameter, {size.gone_through / 1e9:.2f}e9 of them, at "
            f"{utilisation:g} of an {gpu.model}'s peak."
        )
    if "generation" in rates.estimated:
        said.append(
            f"~ generation: {size.parameters / 1e9:.2f}e9 weights, and keys and values of "
            f"{sequences_at_once(gpu, size)} sequences, are read for a token of each, at {READ_SHARE:g} of an "
            f"{gpu.model}'s bandwidth."
        )
    return said
