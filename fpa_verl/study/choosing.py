"""Which of the settings that an arm was offered it takes: by its candidates' accuracy on the validation problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fpa_verl.evaluation.accuracy import Outcomes
from fpa_verl.evaluation.paired import paired_difference
from fpa_verl.runs.ledger import read_spending
from fpa_verl.runs.rounds import ledger_folders, run_directories, whole_run
from fpa_verl.runs.run import Run
from fpa_verl.runs.snapshots import not_evaluated
from fpa_verl.runs.validation import best_step, evaluated_steps, point_at, validation_accuracy, validation_sources
from fpa_verl.study.definition import Candidate
from fpa_verl.tables import SECONDS_A_MINUTE, Table, percent


@dataclass(frozen=True)
class Tried:
    """A candidate that was trained and judged.

    Attributes:
        candidate: its settings.
        run: what it left.
    """

    candidate: Candidate
    run: Run

    @cached_property
    def step(self) -> int:
        """Of the best model that it trained; what they begin with is the same for all candidates."""
        return best_step(self.run, trained=True)

    @cached_property
    def accuracy(self) -> float:
        """Of that model."""
        return validation_accuracy(self.run, self.step)

    @cached_property
    def outcomes(self) -> Outcomes:
        """Of that model on each validation problem, by set and problem."""
        return {
            f"{source}/{problem}": outcome
            for source in validation_sources(self.run)
            for problem, outcome in point_at(self.run, self.step, source).problems.items()
        }

    @property
    def device_seconds(self) -> float:
        """What trying it took, start-up and evaluation included."""
        return _device_seconds(self.run.folder)


def _device_seconds(folder: Path) -> float:
    ledgers = map(read_spending, ledger_folders(folder))
    return sum(sum(ledger.device_seconds.values()) for ledger in ledgers)


def tried(candidate: Candidate, folder: Path) -> Tried | None:
    """The candidate with the run that it left in a folder; None where it is not judged yet."""
    if any(map(not_evaluated, run_directories(folder))):
        return None
    run = whole_run(folder)
    return Tried(candidate, run) if run and validation_sources(run) and run.points else None


def take(candidates: Sequence[Tried], within: float = 0.0) -> Tried:
    """The one of the highest accuracy; of those no further below it than chance explains, the first.

    Args:
        candidates: as the study's file lists them, the gentlest first where `within` is to prefer gentle ones.
        within: how many standard errors, over problems, of its difference from the highest that may be. 0: the
            highest itself, and of equals the first; 1: the one-standard-error rule of Breiman et al. (1984).
    """
    highest = max(candidates, key=lambda one: one.accuracy)
    return next(one for one in candidates if one is highest or _is_as_good(one, highest, within))


def _is_as_good(one: Tried, highest: Tried, within: float) -> bool:
    if one.accuracy == highest.accuracy:
        return True
    return within > 0 and highest.accuracy - one.accuracy <= within * _error_of_difference(one, highest)


def _error_of_difference(one: Tried, other: Tried) -> float:
    return paired_difference(other.outcomes, one.outcomes).standard_error


def better_half(candidates: Sequence[Tried]) -> list[Tried]:
    """Those that go on after a rung of successive halving, in the order in which they were listed."""
    by_accuracy = sorted(range(len(candidates)), key=lambda place: -candidates[place].accuracy)
    return [candidates[place] for place in sorted(by_accuracy[: half_of(len(candidates))])]


def half_of(candidates: int) -> int:
    """How many of so many go on."""
    return (candidates + 1) // 2


def choosing_table(
    arm: str, rungs: Sequence[Sequence[Tried]], chosen: Candidate | None, begun_with: Path | None = None
) -> Table:
    """What each candidate of an arm came to and what it took, rung by rung.

    Args:
        arm: its name.
        rungs: its candidates.
        chosen: the one that was taken.
        begun_with: the run that all of them went on from, where it was made for that.
    """
    rows = [_row(one, is_chosen=rung is rungs[-1] and one.candidate == chosen) for rung in rungs for one in rung]
    before = _device_seconds(begun_with) if begun_with else 0.0
    minutes = (before + sum(one.device_seconds for rung in rungs for one in rung)) / SECONDS_A_MINUTE
    caption = (
        f"{arm}, chosen by accuracy on the validation problems: the search took {minutes:.2f} device-minutes in all"
        + (f", {before / SECONDS_A_MINUTE:.2f} of them for what its candidates went on from" if begun_with else "")
    )
    return Table(caption, ["candidate", "steps", "best step", "accuracy (%)", "dev-min", ""], rows)


def _row(one: Tried, *, is_chosen: bool) -> list[str]:
    last = evaluated_steps(one.run)[-1]
    minutes = f"{one.device_seconds / SECONDS_A_MINUTE:.2f}"
    chosen = "chosen" if is_chosen else ""
    return [one.candidate.words, str(last), str(one.step), percent(one.accuracy), minutes, chosen]
