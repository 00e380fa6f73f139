"""`fpa-verl power DIFFERENCE RUNS` of arms with several seeds: how well each is known, and whether two are told apart.

Problems and seeds both vary: `evaluation.seeds.over_seeds_and_problems` has the error, whose seeds' part shrinks with
more seeds and whose problems' part does not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fpa_verl.evaluation import power
from fpa_verl.evaluation.intervals import LEVEL
from fpa_verl.evaluation.power import WANTED
from fpa_verl.evaluation.seeds import Array, StudentT, over_seeds_and_problems
from fpa_verl.report.claims.evidence import shares
from fpa_verl.report.comparable import require_same_questions
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.statistics.arms import Arm, labels
from fpa_verl.runs.run import Run
from fpa_verl.runs.validation import evaluated_steps, point_at
from fpa_verl.tables import NEVER, Table, percent, points

# Beyond which nobody trains more seeds.
MOST_SEEDS = 100


@dataclass(frozen=True)
class Known:
    """How well an arm's accuracy is known, for other seeds and other problems of the kind.

    Attributes:
        shares: (S, P) of right samples.
    """

    name: str
    data_source: str
    shares: Array

    @property
    def accuracy(self) -> StudentT:
        return over_seeds_and_problems(self.shares)

    @property
    def half_width(self) -> float:
        """Of the 95 % interval, a fraction of 1."""
        low, high = self.accuracy.interval(LEVEL)
        return (high - low) / 2


@dataclass(frozen=True)
class Pair:
    """Two arms on the problems that both were asked."""

    first: Known
    second: Known

    @property
    def difference(self) -> StudentT:
        """The first's accuracy less the second's."""
        return over_seeds_and_problems(self.first.shares, -self.second.shares)

    @property
    def shows(self) -> float:
        """The smallest true difference that a two-sided test at 5 % finds with a chance of 80 %."""
        return smallest(self.difference)

    def chance(self, difference: float) -> float:
        """That the test finds a true `difference`."""
        return chance(difference, self.difference)

    def seeds_needed(self, difference: float) -> int | None:
        """Seeds of each arm with which that chance is 80 %; None where no number of them is enough on these problems.

        Those that there are say how far seeds lie apart, and how well that is known.
        """
        found, problems = self.difference, self.first.shares.shape[1]
        by_seeds = sum(float(one.shares.mean(axis=1).var(ddof=1)) for one in (self.first, self.second))
        seeds = sum(len(one.shares) for one in (self.first, self.second)) / 2
        by_problems = max(found.standard_error**2 - by_seeds / seeds, 0.0)
        for count in range(2, MOST_SEEDS + 1):
            error = math.sqrt(by_problems + by_seeds / count)
            freedom = error**4 / (by_problems**2 / (problems - 1) + (by_seeds / count) ** 2 / (2 * (count - 1)) or 1.0)
            if chance(difference, StudentT(0.0, error, freedom)) >= WANTED:
                return count
        return None


def chance(difference: float, of: StudentT) -> float:
    """That a two-sided test at 5 % finds a true `difference` measured with such an error (noncentral t)."""
    if not of.standard_error:
        return 1.0
    return power.chance(abs(difference) / of.standard_error, of.degrees_of_freedom, LEVEL)


def smallest(of: StudentT) -> float:
    """The true difference that such a test finds with a chance of 80 %."""
    return power.shift_found(of.degrees_of_freedom, WANTED, LEVEL) * of.standard_error


@dataclass(frozen=True)
class ArmsPower(Comparison):
    """What arms with several seeds show.

    Attributes:
        difference: what is to be seen in accuracy, a fraction of 1.
    """

    runs: list[Run]
    difference: float
    known: list[Known]
    pairs: list[Pair]

    name = "power"
    title = "What these seeds and problems show"

    def tables(self) -> list[Table]:
        return [self.known_table(), self.pairs_table()]

    def known_table(self) -> Table:
        rows = [
            [
                one.name,
                one.data_source,
                str(one.shares.shape[1]),
                str(len(one.shares)),
                percent(one.accuracy.value),
                f"± {percent(one.half_width)}",
                percent(float(one.shares.mean(axis=1).std(ddof=1))),
            ]
            for one in self.known
        ]
        caption = "Accuracy (%) at the last evaluation, its 95% interval over problems and seeds, and the seeds' spread"
        return Table(caption, ["arm", "set", "problems", "seeds", "accuracy", "interval", "spread"], rows)

    def pairs_table(self) -> Table:
        wanted = f"{100 * self.difference:g}"
        rows = []
        for one in self.pairs:
            low, high = one.difference.interval(LEVEL)
            needed = one.seeds_needed(self.difference)
            rows.append(
                [
                    f"{one.first.name} less {one.second.name}",
                    points(one.difference.value),
                    f"{points(low)} to {points(high)}",
                    f"{100 * one.shows:.1f}",
                    f"{one.chance(self.difference):.0%}",
                    NEVER if needed is None else str(needed),
                ]
            )
        caption = (
            f"Differences (points), 95% interval; the smallest that is seen with a chance of {WANTED:.0%}; the chance "
            f"of seeing {wanted}, and the seeds of each arm that make it {WANTED:.0%}"
        )
        return Table(caption, ["arms", "difference", "interval", "shows", "chance", "needs"], rows)

    def notes(self) -> list[str]:
        return [
            "Student's t over seeds and problems, both taken for draws of many (docs/report.md); two-sided at 5%.",
            "The noise of decoding is in the problems' part and in the seeds': more samples lower both.",
            f"{NEVER}: on so few problems no number of seeds up to {MOST_SEEDS} is enough.",
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "difference": self.difference,
            "power": WANTED,
            "level": LEVEL,
            "arms": [
                {
                    "arm": one.name,
                    "set": one.data_source,
                    "seeds": len(one.shares),
                    "problems": one.shares.shape[1],
                    "accuracy": one.accuracy.value,
                    "interval": one.accuracy.interval(LEVEL),
                }
                for one in self.known
            ],
            "pairs": [
                {
                    "arms": [one.first.name, one.second.name],
                    "difference": one.difference.value,
                    "interval": one.difference.interval(LEVEL),
                    "smallest_difference": one.shows,
                    "chance": one.chance(self.difference),
                    "seeds_needed": one.seeds_needed(self.difference),
                }
                for one in self.pairs
            ],
        }


def have_seeds(arms: Sequence[Arm]) -> bool:
    """Whether there are arms to tell apart, each with seeds that say how far they lie apart."""
    return len(arms) > 1 and all(len(arm.runs) > 1 for arm in arms)


def arms_power(difference: float, arms: Sequence[Arm], sources: Sequence[str]) -> ArmsPower:
    """What the last evaluations of all arms show, on each problem set.

    Raises:
        MismatchError: runs that were asked or scored differently.
    """
    runs = [run for arm in arms for run in arm.runs]
    require_same_questions(runs)
    known, pairs = [], []
    for source in sources:
        last = [[point_at(run, evaluated_steps(run)[-1], source) for run in arm.runs] for arm in arms]
        here = [Known(name, source, of_arm) for name, of_arm in zip(labels(list(arms)), shares(*last), strict=True)]
        known += here
        pairs += [Pair(first, second) for first, second in itertools.combinations(here, 2)]
    return ArmsPower(runs, difference, known, pairs)
