"""Whether runs had the same number of steps to learn in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fpa_verl.report.claims.evidence import UnsuitedError
from fpa_verl.report.statistics.arms import Arm
from fpa_verl.runs.run import Run


def require_same_length(method: str, arms: list[Arm], steps: Callable[[Run], int]) -> None:
    """Refuse seeds of different lengths, and offline methods of different lengths.

    A run that stopped early was given as many steps as it was to make.

    Args:
        method: whose effect it is.
        arms: its runs, and those of the method that it is measured by.
        steps: after which of its steps a run is measured.
    """
    lengths = [_lengths(arm, steps) for arm in arms]
    for arm, found in zip(arms, lengths, strict=True):
        if len(found) > 1:
            each = "; ".join(f"{length} ({', '.join(names)})" for length, names in sorted(found.items()))
            raise UnsuitedError(
                arm.method, f"seeds of different numbers of steps are not pooled: {each}: report those of one length"
            )
    if any(run.generates for arm in arms for run in arm.runs):
        return
    if len(set().union(*lengths)) > 1:
        each = ", ".join(f"{arm.method} {length}" for arm, found in zip(arms, lengths, strict=True) for length in found)
        raise UnsuitedError(
            method,
            f"not measured after the same number of steps: {each}: train both as long "
            "(scale.offline.epochs, scale.offline.steps)",
        )


def _lengths(arm: Arm, steps: Callable[[Run], int]) -> dict[int, list[str]]:
    """Numbers of steps to the runs that were given so many; without those of which it is not known."""
    found: dict[int, list[str]] = {}
    for run in arm.runs:
        given = run.spending.total_steps if run.spending.stopped_early else steps(run)
        if given is not None:
            found.setdefault(given, []).append(run.name)
    return found


def notes_on_early_stops(runs: Iterable[Run]) -> list[str]:
    """Which of the runs stopped early, and after how many steps."""
    early = {run.name: run.spending for run in runs if run.spending.stopped_early}
    return [
        f"{name}: stopped early at step {spent.last_step}{f' of {spent.total_steps}' if spent.total_steps else ''}, "
        "and counts with what it had learned by then"
        for name, spent in early.items()
    ]
