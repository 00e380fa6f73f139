"""Intervals by bootstrap over problems and seeds (docs/report.md says what they mean and what they do not).

B replicates, S seeds of a method, E evaluations, P problems. A replicate draws P problems with replacement, the same
for all methods, seeds and evaluations, because all were asked the same ones; and for each method S of its seeds. Draws
are kept as weights (how often each was drawn, over how many were), so that a replicate is a weighted mean.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpa_verl.evaluation.intervals import LEVEL
from fpa_verl.report.statistics.curves import Axis, Floats, MethodCurve

REPLICATES = 2000
SEED = 0
# Accuracies are sums in another order than a target given as a decimal.
TOLERANCE = 1e-9
# Replicates handled at once, which bounds the memory.
_CHUNK = 250


@dataclass(frozen=True)
class Estimate:
    """A number from the runs as they are, and its interval over the replicates.

    Infinity means that a target was not reached; NaN that there is nothing to tell.

    Attributes:
        low, high: ends of the percentile interval; an end that is infinite was not reached.
        share: part of the replicates that have a finite number; NaN where there are no replicates.
    """

    value: float
    low: float
    high: float
    share: float

    def as_json(self) -> dict[str, Any]:
        """JSON has no infinity: null stands for what was not reached."""
        return {name: float(value) if np.isfinite(value) else None for name, value in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class Percentile:
    """A number from the runs as they are, and its replicates: an interval of any level.

    Attributes:
        lowest, highest: (B,) the least and the most that a replicate leaves possible.
    """

    value: float
    lowest: Floats
    highest: Floats

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """From the lower quantile of `lowest` to the upper one of `highest`; NaN where there are no replicates."""
        if not self.lowest.size:
            return np.nan, np.nan
        # No interpolation between replicates: half-way to infinity is infinity.
        low = np.quantile(self.lowest, (1 - level) / 2, method="lower")
        high = np.quantile(self.highest, (1 + level) / 2, method="higher")
        return float(low), float(high)


def estimate(value: float, replicates: Floats, level: float = LEVEL) -> Estimate:
    """The percentile interval of `replicates`, (B,), infinities counted as the largest, NaN left out.

    B = 0 where the outcomes that replicates are drawn from are not at hand: no interval then.
    """
    told = replicates[~np.isnan(replicates)]
    low, high = Percentile(value, told, told).interval(level)
    return Estimate(float(value), low, high, share_of(np.isfinite(replicates)))


def share_of(replicates: NDArray[np.bool_]) -> float:
    """Share of the replicates of which something holds; NaN where there are none."""
    return float(replicates.mean()) if replicates.size else np.nan


@dataclass(frozen=True, eq=False)
class Passage:
    """When a target was reached.

    Attributes:
        time: (B,) as `first_passage` says.
        short: (B,) the highest cost at which a method was measured and had not got there yet; -infinity for none.
    """

    time: Floats
    short: Floats

    def __getitem__(self, replicates: slice) -> Passage:
        return Passage(self.time[replicates], self.short[replicates])


def first_passage(accuracy: Floats, hours: Floats, target: float | Floats) -> Floats:
    """Cost of the first evaluation at or above `target`, (B, E) and (B, E) -> (B,); infinity where there is none.

    The curve is a staircase: what lies between two evaluations was not measured, and what lies behind the last one
    even less. An evaluation that measured nothing (NaN) reaches nothing. A target for each replicate is (B, 1).
    """
    reached = accuracy >= target - TOLERANCE
    first = reached.argmax(axis=1)
    return np.where(reached.any(axis=1), np.take_along_axis(hours, first[:, None], axis=1)[:, 0], np.inf)


def short_until(accuracy: Floats, hours: Floats, target: float | Floats) -> Floats:
    """Cost of the last evaluation before the first passage, in its shapes; -infinity where there is none."""
    before = ~np.logical_or.accumulate(accuracy >= target - TOLERANCE, axis=1)
    return np.where(before & ~np.isnan(accuracy), hours, -np.inf).max(axis=1)


def _draw(rng: np.random.Generator, items: int, replicates: int) -> Floats:
    """(B, items) weights that add up to 1."""
    if not items:
        return np.empty((replicates, 0))
    return rng.multinomial(items, np.full(items, 1 / items), size=replicates) / items


@dataclass(frozen=True)
class Replicates:
    """A method's mean curve, redrawn: accuracy (B, E), and hours (B, E) by axis."""

    accuracy: Floats
    hours: dict[Axis, Floats]

    def passage(self, target: float | Floats, axis: Axis) -> Passage:
        curve = self.accuracy, self.hours[axis], target
        return Passage(first_passage(*curve), short_until(*curve))


def as_measured(curve: MethodCurve) -> Replicates:
    """The mean curve over the seeds and problems as they are: one replicate."""
    axes: tuple[Axis, ...] = ("device", "wall")
    return Replicates(curve.mean_accuracy()[None], {axis: curve.mean_hours(axis)[None] for axis in axes})


def resample(curves: list[MethodCurve], replicates: int = REPLICATES, seed: int = SEED) -> list[Replicates]:
    """Redraw every method; replicate b of one belongs to replicate b of another, for they share the problems drawn.

    A method of which the outcomes of single problems are not at hand has no replicates.
    """
    problems_stream, *seed_streams = np.random.SeedSequence(seed).spawn(1 + len(curves))
    problems = _draw(np.random.default_rng(problems_stream), curves[0].right.shape[2], replicates)
    return [
        _none(curve)
        if curve.logged is not None
        else _weighted(curve, problems, _draw(np.random.default_rng(stream), len(curve.runs), replicates))
        for curve, stream in zip(curves, seed_streams, strict=True)
    ]


def _none(curve: MethodCurve) -> Replicates:
    empty = np.empty((0, len(curve.steps)))
    return Replicates(empty, {"device": empty, "wall": empty})


def _weighted(curve: MethodCurve, problem_weights: Floats, seed_weights: Floats) -> Replicates:
    """Mean curves under (B, P) weights of problems and (B, S) weights of seeds."""
    chunks = range(0, len(problem_weights), _CHUNK)
    accuracy = [_accuracy(curve, problem_weights[i : i + _CHUNK], seed_weights[i : i + _CHUNK]) for i in chunks]
    axes: tuple[Axis, ...] = ("device", "wall")
    return Replicates(np.concatenate(accuracy), {axis: seed_weights @ curve.hours(axis) for axis in axes})


def _accuracy(curve: MethodCurve, problem_weights: Floats, seed_weights: Floats) -> Floats:
    """(B, E): a seed's accuracy is the mean over the problems that it sampled; a seed not drawn has no say."""
    right = curve.right @ problem_weights.T
    # In most runs every problem was sampled each time, and that is half of the work.
    everything = curve.sampled.all()
    sampled = (
        np.broadcast_to(problem_weights.sum(axis=1), right.shape) if everything else curve.sampled @ problem_weights.T
    )
    by_seed = np.divide(right, sampled, out=np.full(right.shape, np.nan), where=sampled > 0)
    drawn = seed_weights.T[:, None, :]
    return np.where(drawn > 0, drawn * by_seed, 0.0).sum(axis=0).T
