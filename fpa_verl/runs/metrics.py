"""The metrics that verl logged of a run: those that reports use, by step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fpa_verl.files import read_json_lines

DYNAMICS = "dynamics/"
# Of a run that mixes two gradients: the weight, and their bias and variance (docs/bvpo.md).
MIXING = "mixing/"
# How well a policy was foreseen (docs/foresight.md).
FORESIGHT = "foresight/"
# Trajectories by what the scorer says of them.
SIDES = ("right", "wrong")
GRADIENT_NORM = "actor/grad_norm"
TOKENS = "perf/total_num_tokens"
PEAK_MEMORY = "actor/perf/max_memory_allocated_gb"
RESPONSE_LENGTH, PROMPT_LENGTH = "response_length/mean", "prompt_length/mean"
_SINGLE = {GRADIENT_NORM, TOKENS, RESPONSE_LENGTH, PROMPT_LENGTH}

Metrics = dict[str, dict[int, float]]


def dynamics_metric(side: str, name: str) -> str:
    """Name of a mean over the right or the wrong trajectories of a step (docs/objectives.md lists them)."""
    return f"{DYNAMICS}{side}/{name}"


def read_metrics(folder: Path) -> Metrics:
    """Metric to step to value, over all attempts; a step that was done again counts as it was done last.

    What is null or not finite is left out, as if it had not been logged.
    """
    found: Metrics = {}
    for file in sorted(folder.glob("metrics.*.jsonl"), key=lambda file: int(file.name.split(".")[1])):
        for name, by_step in _read_file(file, file.stat().st_size).items():
            found.setdefault(name, {}).update(by_step)
    return found


def one_after_another(runs: Iterable[tuple[Metrics, int]]) -> Metrics:
    """Those of several runs, each with the number of its last step, as if they were one."""
    found: Metrics = {}
    before = 0
    for metrics, last_step in runs:
        for name, by_step in metrics.items():
            found.setdefault(name, {}).update({before + step: value for step, value in by_step.items()})
        before += last_step
    return found


# Comparisons of one report read the same files; the size tells whether a live run has gone on.
@lru_cache(maxsize=256)
def _read_file(file: Path, size: int) -> Metrics:
    return by_metric((record["step"], record["data"]) for record in read_json_lines(file))


def by_metric(logged: Iterable[tuple[int, Mapping[str, Any]]]) -> Metrics:
    """Metric to step to value, of steps with their metrics; the last of several values of a step counts."""
    found: Metrics = {}
    for step, data in logged:
        # A record has a hundred names and few that count: sets are quicker than a look at each.
        for name in _wanted(frozenset(data)):
            value = data[name]
            if value is not None and math.isfinite(value):
                found.setdefault(name, {})[step] = value
    return found


@lru_cache(maxsize=64)
def _wanted(names: frozenset[str]) -> list[str]:
    return sorted(name for name in names if name in _SINGLE or name.startswith((DYNAMICS, MIXING, FORESIGHT)))


def generated_tokens(metrics: Metrics) -> float | None:
    """Response tokens of every step's batch together: its tokens, less the share of prompts; None if not logged.

    They are what the run generated if it trains on each of its own trajectories once, as GRPO does.
    """
    batches = [metrics.get(name, {}) for name in (TOKENS, RESPONSE_LENGTH, PROMPT_LENGTH)]
    steps = set.intersection(*map(set, batches))
    if not steps:
        return None
    tokens, response, prompt = batches
    return sum(tokens[s] * response[s] / (response[s] + prompt[s]) for s in steps)
