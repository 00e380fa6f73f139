"""The comparisons by name, as `--compare` takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fpa_verl.report.comparison import Comparison
from fpa_verl.report.comparisons import (
    claims,
    cost,
    decoding,
    dynamics,
    lambdas,
    objectives,
    paired,
    paper,
    paper_figures,
    wallclock,
)
from fpa_verl.runs.run import Run


@dataclass(frozen=True)
class Options:
    """What of the runs is asked for.

    Attributes:
        data_source: the problem set to judge on; None chooses.
        targets: accuracies to reach, fractions of 1; None chooses.
        against: the method to measure the others by; None chooses.
        margin: difference in accuracy that is of no account, a fraction of 1; None chooses.
    """

    data_source: str | None = None
    targets: list[float] | None = None
    against: str | None = None
    margin: float | None = None


COMPARISONS: dict[str, Callable[[list[Run], Options], Comparison]] = {
    "wallclock": lambda runs, o: wallclock.compare(runs, o.data_source, o.targets, o.against),
    "paired": lambda runs, o: paired.compare(runs, o.data_source, o.against),
    "cost": lambda runs, o: cost.compare(runs),
    "objectives": lambda runs, o: objectives.compare(runs, o.data_source),
    "lambda": lambda runs, o: lambdas.compare(runs, o.data_source),
    "dynamics": lambda runs, o: dynamics.compare(runs),
    "figures": lambda runs, o: paper_figures.compare(runs, o.data_source),
    "paper": lambda runs, o: paper.compare(runs, o.margin),
    "decoding": lambda runs, o: decoding.compare(runs, o.data_source),
    "claims": lambda runs, o: claims.compare(runs, o.data_source, o.margin),
}
