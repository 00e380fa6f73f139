"""`fpa-verl power DIFFERENCE`: how many problems and samples it takes to see it, before anybody pays.

The variances come from a pilot of two runs, of one, or from assumptions; `fpa_verl.evaluation.power` has the equations.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from statistics import median_low
from typing import Any

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.evaluation.accuracy import Outcomes
from fpa_verl.evaluation.benchmarks import BENCHMARKS
from fpa_verl.evaluation.intervals import LEVEL
from fpa_verl.evaluation.power import (
    DEFAULT_ACCURACY,
    DEFAULT_AGREEMENT,
    DEFAULT_ALIKENESS,
    WANTED,
    Variances,
    default_variances,
    power,
    requirements,
    samples_needed,
    smallest_difference,
    variances_of_one_run,
    variances_of_two_runs,
)
from fpa_verl.report.comparable import problem_sets, require_same_questions
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.statistics.arms import arms_of, one_a_seed
from fpa_verl.runs.run import Point, Run
from fpa_verl.study.arms_power import ArmsPower, arms_power, have_seeds
from fpa_verl.tables import NEVER, Table

# Two-sided test at 1 - LEVEL that finds the difference with chance WANTED.
# Samples a problem in the table of problems needed.
SAMPLES = (1, 2, 4, 8, 16, 32)
# Below it, more problems than there are.
LEAST_DIFFERENCE = 0.001
_VARIANCES = "B (variance over problems of the difference between two runs) and W (of one sample from each)"


@dataclass(frozen=True)
class ProblemSet:
    """What two runs are to be told apart on.

    Attributes:
        samples: answers to each problem, from either run.
        variances: those of one problem's difference between the runs.
    """

    name: str
    problems: int
    samples: int
    variances: Variances

    @property
    def smallest_difference(self) -> float:
        return smallest_difference(self.variances, self.problems, self.samples, WANTED, LEVEL)

    def chance(self, difference: float) -> float:
        """That the test finds a true `difference` on this set as it is."""
        return power(difference, self.variances, self.problems, self.samples, LEVEL)

    def samples_needed(self, difference: float) -> int | None:
        """Answers to each of its problems; None where no number of them is enough."""
        return samples_needed(difference, self.variances, self.problems, WANTED, LEVEL)

    def problems_needed(self, difference: float) -> dict[int, int]:
        """Problems, by the number of samples of each."""
        counts = sorted({*SAMPLES, self.samples})
        return {r.samples: r.problems for r in requirements(self.variances, [difference], counts, WANTED, LEVEL)}


@dataclass(frozen=True)
class Power(Comparison):
    """Whether each problem set shows the difference that was asked for, and what it takes.

    Attributes:
        runs: the pilot; two, one, or none.
        difference: what is to be seen in accuracy, a fraction of 1.
        origin: where the variances come from, in words.
        left_out: problem sets that say nothing, and why.
    """

    runs: list[Run]
    difference: float
    sets: list[ProblemSet]
    origin: str
    left_out: list[str]

    name = "power"
    title = "Problems and samples needed"

    @property
    def points(self) -> str:
        """The difference in percentage points."""
        return f"{100 * self.difference:g} point{'s' * (self.difference != 0.01)}"

    def tables(self) -> list[Table]:
        return [self.set_table(), self.requirement_table()]

    def set_table(self) -> Table:
        """A line a problem set as it is."""
        rows = []
        for one in self.sets:
            needed = one.samples_needed(self.difference)
            cells = [
                f"{one.problems:,}",
                str(one.samples),
                f"{one.variances.between:.4f}",
                f"{one.variances.within:.4f}",
                f"{100 * one.smallest_difference:.1f}",
                f"{one.chance(self.difference):.0%}",
                NEVER if needed is None else f"{needed:,}",
            ]
            rows.append([one.name, *cells])
        caption = (
            f"The smallest difference (points) seen with a chance of {WANTED:.0%}, two-sided at {1 - LEVEL:.0%}; the "
            f"chance of seeing {self.points}, and the samples of each problem that make it {WANTED:.0%}"
        )
        return Table(caption, ["set", "problems", "samples", "B", "W", "shows", "chance", "needs"], rows)

    def requirement_table(self) -> Table:
        """Problems needed by samples a problem, a line for sets of the same variances."""
        alike: dict[Variances, list[str]] = {}
        for one in self.sets:
            alike.setdefault(one.variances, []).append(one.name)
        rows = []
        for variances, names in alike.items():
            needed = requirements(variances, [self.difference], SAMPLES, WANTED, LEVEL)
            label = "any" if len(names) == len(self.sets) > 1 else ", ".join(names)
            rows.append([label, *(f"{one.problems:,}" for one in needed)])
        caption = f"Problems needed to see {self.points} with a chance of {WANTED:.0%}, by samples of each"
        return Table(caption, ["set", *map(str, SAMPLES)], rows)

    def notes(self) -> list[str]:
        beyond = [one for one in self.sets if one.samples_needed(self.difference) is None]
        where = ", ".join(f"{one.problems:,} problems ({one.name})" for one in beyond)
        out_of_reach = f"{self.points} cannot be reached with any number of samples on {where}"
        seeds = "The difference is one of two models. What another seed of training would change comes on top."
        return [self.origin, *self.left_out, *([out_of_reach] if beyond else []), seeds]

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "difference": self.difference,
            "power": WANTED,
            "level": LEVEL,
            "variances_from": self.origin,
            "sets": [self._set_json(one) for one in self.sets],
        }

    def _set_json(self, one: ProblemSet) -> dict[str, Any]:
        return {
            "set": one.name,
            "problems": one.problems,
            "samples": one.samples,
            "variances": vars(one.variances),
            "smallest_difference": one.smallest_difference,
            "chance": one.chance(self.difference),
            "samples_needed": one.samples_needed(self.difference),
            "problems_needed": {str(samples): n for samples, n in one.problems_needed(self.difference).items()},
        }


def required(difference: float, runs: list[Run], data_source: str | None = None) -> Power | ArmsPower:
    """What it takes to see `difference`, by the variances that the last evaluations of `runs` show.

    Args:
        difference: what is to be seen in accuracy, a fraction of 1.
        runs: two that are like those to be compared; or one, the other being assumed like it; or none, and
            the paper's benchmarks under the assumptions of `default_variances`; or several seeds of each of some arms,
            which are then told apart over seeds as well.
        data_source: the problem set; None: all but validation.

    Raises:
        ConfigError: no such difference, or a problem set without runs.
        DatasetError: more than two runs, a log of verl, no evaluation in common, or none that shows how answers vary.
        MismatchError: two runs that were asked or scored differently.
    """
    if not LEAST_DIFFERENCE <= difference < 1:
        raise ConfigError(
            f"{difference:g}: a difference in accuracy from {LEAST_DIFFERENCE} to 1, such as 0.02 for 2 points"
        )
    if not runs:
        if data_source is not None:
            raise ConfigError(f"--on {data_source} needs a run that was evaluated on it: name one, or leave --on out")
        return Power([], difference, paper_sets(), _assumptions(), [])
    for run in runs:
        if run.log:
            raise DatasetError(
                f"{run.folder} is a log of verl, which holds no outcome of a single problem: name run directories"
            )
    trained = [run for run in runs if not run.only_evaluates]
    if len(runs) > 2 and have_seeds(arms := [one_a_seed(arm) for arm in arms_of(trained)]):
        return arms_power(difference, arms, _shared_sets(runs, data_source))
    if len(runs) > 2:
        first, second = _two_methods(runs)
        raise DatasetError(
            "what it takes to see a difference shows in two runs, one, none, or several seeds of each method, and "
            f"these are {len(runs)}: "
            f"{', '.join(str(run.folder) for run in runs)}. Name two, of the methods to be told apart; for one: "
            f"fpa-verl power {difference:g} {shlex.quote(str(first.folder))} {shlex.quote(str(second.folder))}"
        )
    require_same_questions(runs)
    sets, left_out = _measured(runs, _shared_sets(runs, data_source))
    return Power(runs, difference, sets, _origin(runs), left_out)


def _two_methods(runs: list[Run]) -> tuple[Run, Run]:
    """The pair that is most likely meant: FPA or else another offline method, and the online one where there is one."""
    first, *others = sorted(runs, key=lambda run: (not run.generates, run.recipe))
    others.sort(key=lambda run: (run.method == first.method, run.recipe != "fpa_offline"))
    return others[0], first


def paper_sets() -> list[ProblemSet]:
    """The paper's benchmarks with their published sizes, sets of one benchmark together."""
    variances = default_variances()
    found: dict[str, ProblemSet] = {}
    for one in BENCHMARKS.values():
        before = found[one.title].problems if one.title in found else 0
        found[one.title] = ProblemSet(one.title, before + one.problems, one.samples, variances)
    return list(found.values())


def _shared_sets(runs: list[Run], wanted: str | None) -> list[str]:
    by_run = [problem_sets([run], wanted) for run in runs]
    shared = [source for source in by_run[0] if all(source in others for others in by_run[1:])]
    if not shared:
        raise DatasetError(f"{' and '.join(str(run.folder) for run in runs)} have no problem set in common")
    return shared


def _measured(runs: list[Run], sources: list[str]) -> tuple[list[ProblemSet], list[str]]:
    """Each problem set with its variances; of those that say nothing, why."""
    sets, left_out = [], []
    for source in sources:
        try:
            sets.append(_pilot(source, [_last(run, source).problems for run in runs]))
        except DatasetError as error:
            left_out.append(f"{source} is left out: {error}")
    if not sets:
        raise DatasetError("; ".join(left_out))
    return sets, left_out


def _last(run: Run, data_source: str) -> Point:
    points = run.of_source(data_source)
    if not points:
        raise DatasetError(f"{run.folder} has no evaluation on it yet")
    return points[-1]


def _pilot(name: str, outcomes: list[Outcomes]) -> ProblemSet:
    variances = variances_of_two_runs(*outcomes) if len(outcomes) == 2 else variances_of_one_run(outcomes[0])
    if not variances.between + variances.within:
        raise DatasetError("all its answers came out alike, which does not tell how they vary")
    shared = [key for key in outcomes[0] if all(one.get(key, (0, 0))[1] for one in outcomes)]
    # Where few answers could not be scored, the number that was asked for.
    samples = min(median_low([one[key][1] for key in shared]) for one in outcomes)
    return ProblemSet(name, len(shared), samples, variances)


def _origin(runs: list[Run]) -> str:
    pilot = " and ".join(map(_named, runs))
    if len(runs) == 2:
        return f"{_VARIANCES} are estimated from {pilot}, over the problems that both sampled at least twice."
    return (
        f"{_VARIANCES} are estimated from {pilot}, for another run whose accuracies correlate with its own by "
        f"{DEFAULT_AGREEMENT} over problems, which is an assumption: a second run replaces it."
    )


def _named(run: Run) -> str:
    """Its folder, with the step where there are several."""
    last = max(point.step for point in run.points)
    return f"{run.folder} (step {last})" if last else str(run.folder)


def _assumptions() -> str:
    return (
        f"{_VARIANCES} are assumed and not measured: two runs near {DEFAULT_ACCURACY:.0%}, {DEFAULT_ALIKENESS:.0%} of "
        f"p (1 - p) between problems, accuracies that correlate by {DEFAULT_AGREEMENT} over problems. One evaluated "
        "run, or better two, replace that: fpa-verl power DIFFERENCE RUN RUN"
    )
