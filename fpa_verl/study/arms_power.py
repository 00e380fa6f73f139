"""`fpa-verl power DIFFERENCE RUNS` of arms with several seeds: how well each is known, and whether two are told apart.

Problems and seeds both vary: `evaluation.seeds.over_seeds_and_problems` has the error, whose seeds' part shrinks with
more seeds and whose problems' part does not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy.stats import chi2

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import power
from fpa_verl.evaluation.intervals import LEVEL
from fpa_verl.evaluation.power import WANTED
from fpa_verl.evaluation.seeds import Array, StudentT, over_seeds_and_problems, welch_satterthwaite
from fpa_verl.report.claims.evidence import shares
from fpa_verl.report.comparable import require_same_questions
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.statistics.arms import Arm, labels
from fpa_verl.runs.rounds import run_directories
from fpa_verl.runs.run import Run
from fpa_verl.runs.snapshots import not_evaluated
from fpa_verl.runs.validation import evaluated_steps, point_at
from fpa_verl.tables import NEVER, Table, percent, points

# Beyond which nobody trains more seeds.
MOST_SEEDS = 100
# Level of the interval of how many seeds are needed.
BOUNDS = 0.8


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

    def seeds_needed(self, difference: float, spread: float = 1.0) -> int | None:
        """Seeds of each arm with which that chance is 80 %; None where no number of them is enough on these problems.

        Args:
            difference: the true one, a fraction of 1.
            spread: how many times the variance of seeds is that of those that there are.
        """
        enough = (n for n in range(2, MOST_SEEDS + 1) if chance(difference, self._with_seeds(n, spread)) >= WANTED)
        return next(enough, None)

    def seeds_needed_between(self, difference: float) -> tuple[int | None, int | None]:
        """The same where the variance of seeds is at either end of its 80 % interval: few seeds say little of it."""
        freedom = sum(len(one.shares) - 1 for one in self._arms)
        ends = (1 + BOUNDS) / 2, (1 - BOUNDS) / 2
        low, high = (self.seeds_needed(difference, freedom / chi2.ppf(end, freedom)) for end in ends)
        return low, high

    @property
    def _arms(self) -> tuple[Known, Known]:
        return self.first, self.second

    def _with_seeds(self, count: int, spread: float) -> StudentT:
        """The difference as it would be known with so many seeds of each.

        Of a problem's mean over seeds what differs from seed to seed, decoding above all, shrinks with their number:
        its variance is that of problems and, by the mean square of what seed and problem leave, that noise over S.
        """
        by_seeds = [spread * float(one.shares.mean(axis=1).var(ddof=1)) for one in self._arms]
        noise = [_interaction(one.shares) for one in self._arms]
        by_problem = self.first.shares.mean(axis=0) - self.second.shares.mean(axis=0)
        problems = len(by_problem)
        of_problems = float(by_problem.var(ddof=1)) - sum(
            one / len(arm.shares) for one, arm in zip(noise, self._arms, strict=True)
        )
        by_problems = max((max(of_problems, 0.0) + sum(noise) / count) / problems, 1 / problems**2)
        total = by_problems + sum(by_seeds) / count
        terms = [(by_problems, problems - 1), *((one / count, count - 1) for one in by_seeds)]
        return StudentT(0.0, math.sqrt(total), welch_satterthwaite(total, terms))


def _interaction(shares: Array) -> float:
    """Mean square of what is left of (S, P) shares beside what seed and problem explain."""
    seeds, problems = shares.shape
    left = shares - shares.mean(axis=0) - shares.mean(axis=1, keepdims=True) + shares.mean()
    return float((left**2).sum()) / ((seeds - 1) * (problems - 1))


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
        left_out: runs that are not at their end, in words.
    """

    runs: list[Run]
    difference: float
    known: list[Known]
    pairs: list[Pair]
    left_out: list[str]

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
            rows.append(
                [
                    f"{one.first.name} less {one.second.name}",
                    points(one.difference.value),
                    f"{points(low)} to {points(high)}",
                    f"{100 * one.shows:.1f}",
                    f"{one.chance(self.difference):.0%}",
                    _needed(one, self.difference),
                ]
            )
        caption = (
            f"Differences (points), 95% interval; the smallest that is seen with a chance of {WANTED:.0%}; the chance "
            f"of seeing {wanted}, and the seeds of each arm that make it {WANTED:.0%}, with their {BOUNDS:.0%} interval"
        )
        return Table(caption, ["arms", "difference", "interval", "shows", "chance", "needs"], rows)

    def notes(self) -> list[str]:
        return [
            "Student's t over seeds and problems, both taken for draws of many (docs/report.md); two-sided at 5%.",
            "The noise of decoding is in the problems' part and in the seeds': more samples lower both.",
            "How many seeds are needed goes by how far those that there are lie apart, which few of them say roughly.",
            *self.left_out,
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
                    "seeds_needed_between": one.seeds_needed_between(self.difference),
                }
                for one in self.pairs
            ],
        }


def _needed(pair: Pair, difference: float) -> str:
    """How many seeds, and the interval of that where it is more than one number."""
    known = pair.seeds_needed(difference)
    low, high = (NEVER if one is None else str(one) for one in pair.seeds_needed_between(difference))
    shown = NEVER if known is None else str(known)
    return shown if low == high else f"{shown} ({low} to {high})"


def _is_judged(run: Run) -> bool:
    """Whether it came to its end and was evaluated after it had trained, with every model that it kept."""
    return run.finished and evaluated_steps(run)[-1] > 0 and not any(map(not_evaluated, run_directories(run.folder)))


def _of_several_lengths(arm: Arm) -> Iterator[str]:
    """Seeds that stopped early, or were made longer, are pooled with the others; a reader must know."""
    last = {run.name: evaluated_steps(run)[-1] for run in arm.runs}
    if len(set(last.values())) > 1:
        each = ", ".join(f"{name} at step {step:,}" for name, step in last.items())
        yield f"{arm.method}: its seeds were last evaluated at different steps: {each}."


def have_seeds(arms: Sequence[Arm]) -> bool:
    """Whether there are arms to tell apart, each with seeds that say how far they lie apart."""
    return len(arms) > 1 and all(len(arm.runs) > 1 for arm in arms)


def arms_power(difference: float, arms: Sequence[Arm], sources: Sequence[str]) -> ArmsPower:
    """What the last evaluations of all arms show, on each problem set.

    Raises:
        DatasetError: fewer than two arms with two finished seeds.
        MismatchError: runs that were asked or scored differently.
    """
    others = [run.name for arm in arms for run in arm.runs if not _is_judged(run)]
    left_out = [f"Left out, for they are not at their end, or not evaluated: {', '.join(others)}."] if others else []
    arms = [replace(arm, runs=ended) for arm in arms if len(ended := [one for one in arm.runs if _is_judged(one)]) > 1]
    if not have_seeds(arms):
        raise DatasetError(f"too few finished runs: two arms with two seeds each are wanted. {' '.join(left_out)}")
    runs = [run for arm in arms for run in arm.runs]
    require_same_questions(runs)
    left_out += [note for arm in arms for note in _of_several_lengths(arm)]
    known, pairs = [], []
    for source in sources:
        last = [[point_at(run, evaluated_steps(run)[-1], source) for run in arm.runs] for arm in arms]
        here = [Known(name, source, of_arm) for name, of_arm in zip(labels(list(arms)), shares(*last), strict=True)]
        known += here
        pairs += [Pair(first, second) for first, second in itertools.combinations(here, 2)]
    return ArmsPower(runs, difference, known, pairs, left_out)
