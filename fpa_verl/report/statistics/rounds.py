"""What each round of a run in rounds cost and gained.

A round counts with the model that it handed over, or would; before the first stands the base model. Those count that
all seeds have ended and evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from fpa_verl.report.statistics.bootstrap import Estimate, estimate, resample
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR, MethodCurve, method_curve
from fpa_verl.runs.ledger import Cost, read_spending
from fpa_verl.runs.rounds import ledgers_before, step_of_round
from fpa_verl.runs.run import Point, Run

# Of an accuracy, that are more than the rounding of sums.
DIGITS = 9


@dataclass(frozen=True)
class Round:
    """One round, mean over the seeds.

    Attributes:
        number: from 1.
        collecting, training: device-hours; of the dataset with the caches of its reference, and of the training run.
        accuracy: a fraction of 1, with its interval.
        gain: over the round before, or the base model, with the interval of the same replicates; None where that one
            was not evaluated.
    """

    number: int
    collecting: float
    training: float
    accuracy: Estimate
    gain: Estimate | None

    @property
    def pays(self) -> bool | None:
        """Whether the interval of its gain lies above 0; None where there is none."""
        return None if self.gain is None or np.isnan(self.gain.low) else self.gain.low > 0


def rounds_of(curve: MethodCurve, data_source: str) -> list[Round]:
    """The rounds of a method; none where its runs are not in rounds."""
    if not all(run.rounds for run in curve.runs):
        return []
    ended = min(sum(1 for _ in takewhile(bool, _by_round(run, data_source))) for run in curve.runs)
    if not ended:
        return []
    at_ends = [_at_ends(run, data_source, ended) for run in curve.runs]
    line = method_curve(curve.name, at_ends, data_source)
    (drawn,) = resample([line])
    own = list(enumerate(line.steps))[line.earlier :]
    measured, place = line.mean_accuracy(), {int(step): column for column, step in own}

    def gain(number: int) -> Estimate | None:
        if number - 1 not in place:
            return None
        one, other = place[number], place[number - 1]
        # Sums in another order: what differs by less is the same.
        drawn_gain = np.round(drawn.accuracy[:, one] - drawn.accuracy[:, other], DIGITS) + 0.0
        return estimate(measured[one] - measured[other], drawn_gain)

    return [
        Round(
            number,
            _mean_hours([_collecting(run, number) for run in curve.runs]),
            _mean_hours([run.rounds[number - 1].spending.cost for run in curve.runs]),
            estimate(measured[place[number]], drawn.accuracy[:, place[number]]),
            gain(number),
        )
        for number in range(1, ended + 1)
    ]


def first_that_does_not_pay(rounds: list[Round]) -> Round | None:
    """The first whose gain's interval holds 0, or lies below; None where there is none."""
    return next((one for one in rounds if one.pays is False), None)


def _by_round(run: Run, data_source: str) -> list[Point | None]:
    """What each round came to; None for one that has not ended, or was not evaluated there."""
    found: list[Point | None] = []
    for number, one in enumerate(run.rounds, start=1):
        step = step_of_round(run, number) if one.finished and one.points else None
        found.append(next((point for point in one.of_source(data_source) if point.step == step), None))
    return found


def _at_ends(run: Run, data_source: str, ended: int) -> Run:
    """The run as if it had been evaluated before the first round and at the end of each, which are its steps."""
    base = [point for point in run.of_source(data_source) if not point.step]
    ends = [point for point in _by_round(run, data_source)[:ended] if point is not None]
    return replace(run, points=[*base, *(replace(point, step=number) for number, point in enumerate(ends, start=1))])


def _collecting(run: Run, number: int) -> Cost:
    if number == 1:
        return run.data_cost
    return sum((read_spending(folder).cost for folder in ledgers_before(run.rounds[number - 1])), Cost())


def _mean_hours(costs: list[Cost]) -> float:
    return float(np.mean([cost.device_seconds for cost in costs])) / SECONDS_PER_HOUR
