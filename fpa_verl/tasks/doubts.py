"""What a user should know of a task before typing anything with it."""

from __future__ import annotations

from math import sqrt

from fpa_verl.reward.function import RaisedError, RewardFunction
from fpa_verl.rollouts.scorer_trial import try_on
from fpa_verl.tables import percent
from fpa_verl.tasks.measure import Measured
from fpa_verl.tasks.numbers import validation_problems

# Of the held-out problems that a task would have, the share that is as good.
ENOUGH = 0.9


def scorer_doubts(function: RewardFunction | None, measured: Measured) -> list[str]:
    """Where a function raises for the answer of a problem, it may only want what is not there yet: that is said.

    Args:
        function: scores the task's responses; None: ours.
        measured: data and model.

    Raises:
        ConfigError: it returned what is no verdict.
    """
    if function is None or function.is_ours:
        return []
    try:
        return [doubt for problem in measured.examples for doubt in try_on(function, problem)]
    except RaisedError as error:
        return [f"{error}. A run would refuse it, unless it asks a reward model (reward.reward_model.enable)"]


def validation_doubts(measured: Measured) -> list[str]:
    """Where rollouts hold out fewer problems than a task of that size would.

    Args:
        measured: data and model.
    """
    if measured.held_out is None or measured.trained is None:
        return []
    everything = measured.held_out + measured.trained
    wanted = validation_problems(everything)
    if measured.held_out >= ENOUGH * wanted:
        return []
    spread = f" to ± {percent(0.5 / sqrt(measured.held_out))} points" if measured.held_out else ""
    share = round(wanted / everything, 2)
    return [
        f"the rollouts hold out {measured.held_out} of {everything:,} problems, by which an accuracy is known{spread} "
        f"and the best model is chosen. {wanted} would be better: make them again, with --validation-fraction {share} "
        f"of `fpa-verl data import` or validation.fraction={share} of recipe=collect"
    ]
