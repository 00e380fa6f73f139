"""`--compare paired`: by how much each method is ahead of another, problem by problem, and whether that is chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import Outcomes, PairedDifference, paired_difference
from fpa_verl.evaluation.intervals import LEVEL
from fpa_verl.report.comparable import evaluated, notes_on, problem_sets, require_comparable
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.statistics.arms import Arm, arms_of, labels
from fpa_verl.report.statistics.telling import all_draws
from fpa_verl.runs.run import Run
from fpa_verl.runs.validation import evaluated_steps, point_at
from fpa_verl.tables import Table, points


@dataclass(frozen=True)
class Ahead:
    """One method against the other on one problem set.

    Attributes:
        difference: its accuracy less the other's.
    """

    method: str
    data_source: str
    difference: PairedDifference


@dataclass(frozen=True)
class Paired(Comparison):
    """Every method but the one compared with, on every problem set."""

    runs: list[Run]
    against: str
    ahead: list[Ahead]
    left_out: list[str]

    name = "paired"
    title = "Differences, problem by problem"

    def tables(self) -> list[Table]:
        rows = []
        for one in self.ahead:
            low, high = one.difference.interval
            cells = [
                points(one.difference.difference),
                f"{points(low)} to {points(high)}",
                _chance(one.difference.p_value),
                str(one.difference.problems),
            ]
            rows.append([one.method, one.data_source, *cells])
        caption = (
            f"Accuracy at the last evaluation less that of {self.against} (points), over the problems that both were "
            f"asked, {LEVEL:.0%} interval, and the chance of as large a difference where there is none"
        )
        return [Table(caption, ["method", "problem set", "ahead by", "interval", "p", "problems"], rows)]

    def notes(self) -> list[str]:
        seeds = "Seeds of a method are put together: what another seed would change is not in interval and p"
        tests = {one.difference.test for one in self.ahead}
        by = "p is Student's t where sample counts have no small common multiple" if "t" in tests else None
        return [*self.left_out, seeds, *([by] if by else []), *notes_on(self.runs)]

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": self.name,
            "against": self.against,
            "level": LEVEL,
            "differences": [
                {"method": one.method, "data_source": one.data_source, **asdict(one.difference)} for one in self.ahead
            ],
        }


def _chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _outcomes(arm: Arm, data_source: str) -> Outcomes:
    """Right and sampled answers of every problem at the last evaluation, over the seeds."""
    return all_draws([point_at(run, evaluated_steps(run)[-1], data_source) for run in arm.runs])


def compare(runs: list[Run], data_source: str | None = None, against: str | None = None) -> Paired:
    """Every method against one of them, by default the first that generates its own data, else the first.

    Raises:
        DatasetError: fewer than two methods, or none of the name `against`; runs without outcomes of single problems.
        MismatchError: runs that cannot be compared.
    """
    runs, left_out = evaluated([run for run in runs if not run.log])
    require_comparable(runs)
    arms = arms_of(runs)
    by_name = dict(zip(labels(arms), arms, strict=True))
    if len(by_name) < 2:
        raise DatasetError(f"one method alone ({', '.join(by_name)}) differs from nothing: give runs of another too")
    first = next((name for name, arm in by_name.items() if arm.runs[0].generates), next(iter(by_name)))
    if (chosen := against or first) not in by_name:
        raise DatasetError(f"no method '{chosen}': choose --against from {', '.join(by_name)}")
    ahead = [
        Ahead(name, source, paired_difference(_outcomes(arm, source), _outcomes(by_name[chosen], source), LEVEL))
        for source in problem_sets(runs, data_source)
        for name, arm in by_name.items()
        if name != chosen
    ]
    return Paired(runs, chosen, ahead, left_out)
