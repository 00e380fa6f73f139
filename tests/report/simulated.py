"""Studies drawn from known accuracies: runs in memory, of which the truth is known.

Methods are asked the same P problems. A problem's chance to be right is the method's accuracy at that cost, moved by
how hard the problem is, the same for all methods, seeds and evaluations; and a seed may have a deviation of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fpa_verl.report.comparisons import wallclock
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR
from fpa_verl.runs.ledger import Cost, add_up
from fpa_verl.runs.run import Point, Run
from tests.runs.directories import INFO


@dataclass(frozen=True)
class Method:
    """What is drawn.

    Attributes:
        recipe: its name.
        hours: device-hours of the evaluations, the first at 0.
        accuracy: the true one, by device-hours.
        seeds: runs of it.
        seed_deviation: standard deviation over seeds of a trained model's accuracy.
    """

    recipe: str
    hours: Sequence[float]
    accuracy: Callable[[float], float]
    seeds: int = 1
    seed_deviation: float = 0.0


def study(
    rng: np.random.Generator, methods: Sequence[Method], *, problems: int = 100, samples: int = 1, spread: float = 1.5
) -> wallclock.WallClock:
    """One study: every method trained, evaluated and compared.

    Args:
        spread: standard deviation over problems of the log-odds of a right answer.
    """
    hardness = spread * rng.standard_normal(problems)
    runs = [_run(rng, method, seed, hardness, samples) for method in methods for seed in range(method.seeds)]
    return wallclock.compare(runs)


def _run(rng: np.random.Generator, method: Method, seed: int, hardness: np.ndarray, samples: int) -> Run:
    own = method.seed_deviation * rng.standard_normal()
    points = []
    for step, hours in enumerate(method.hours):
        chances = _chances(np.clip(method.accuracy(hours) + own * (step > 0), 0.01, 0.99), hardness)
        right = rng.binomial(samples, chances)
        seconds = SECONDS_PER_HOUR * hours
        outcomes = {f"p{i}": (int(one), samples) for i, one in enumerate(right)}
        points.append(Point(step, "toy", Cost(seconds, seconds / 2), outcomes))
    info = {**copy.deepcopy(INFO), "recipe": method.recipe, "seed": seed}
    info["evaluation"] = {**info["evaluation"], "problem_sets": {"toy": "e"}, "samples": {"toy": samples}}
    return Run(Path(f"{method.recipe}{seed}"), info, points, add_up([]))


def _chances(accuracy: float, hardness: np.ndarray) -> np.ndarray:
    """(P,) chances of mean `accuracy`, which is found by halving."""
    low, high = -15.0, 15.0
    for _ in range(40):
        middle = (low + high) / 2
        chances = 1 / (1 + np.exp(hardness - middle))
        low, high = (middle, high) if chances.mean() < accuracy else (low, middle)
    return chances
