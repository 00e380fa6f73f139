"""What a user should know of a task before typing anything with it."""

from __future__ import annotations

from fpa_verl.reward.function import RaisedError, RewardFunction
from fpa_verl.rollouts.scorer_trial import try_on
from fpa_verl.tasks.measure import Measured


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
        for problem in measured.examples:
            try_on(function, problem)
    except RaisedError as error:
        return [f"{error}. A run would refuse it, unless it asks a reward model (reward.reward_model.enable)"]
    return []
