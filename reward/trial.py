"""A reward function, called before anything is spent: what it makes of the answer, of another one, and of none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fpa_verl.errors import ConfigError
from fpa_verl.reward.function import RaisedError, RewardFunction

ANSWER = "the answer"


def tried(
    scorer: RewardFunction, data_source: str, ground_truth: str, about: Mapping[str, Any]
) -> dict[str, RaisedError]:
    """Call it with responses that models write; by what they hold, those for which it raised.

    The answer is put in words that a scorer of any form may or may not find it in.

    Args:
        scorer: any.
        data_source: of a problem.
        ground_truth: its answer.
        about: what else is known of it, `problem_id` among that.

    Raises:
        ConfigError: it returned what is no verdict.
    """
    responses = {ANSWER: _saying(ground_truth), "another answer": _saying(f"{ground_truth}1"), "an empty response": ""}
    raised = {}
    for what, response in responses.items():
        try:
            scorer(data_source, response, ground_truth, about)
        except RaisedError as error:
            raised[what] = error
        except ConfigError as error:
            raise ConfigError(f"{error}; it was tried with {what} on {_named(about, data_source)}") from error
    return raised


def require_tried(scorer: RewardFunction, data_source: str, ground_truth: str, about: Mapping[str, Any]) -> list[str]:
    """`tried`, in words: of a response without the answer a scorer may raise, and such a one does not train.

    Raises:
        ConfigError: it returned what is no verdict, or raised for the answer.
    """
    raised = tried(scorer, data_source, ground_truth, about)
    if error := raised.get(ANSWER):
        raise ConfigError(f"{error}; it was tried with {ANSWER} on {_named(about, data_source)}") from error
    return [
        f"{error.what} for {what}: such a response has the status error and does not train"
        for what, error in raised.items()
    ]


def _named(about: Mapping[str, Any], data_source: str) -> str:
    return f"problem '{about['problem_id']}' of {data_source}"


def _saying(answer: str) -> str:
    return f"The answer is \\boxed{{{answer}}}.\n#### {answer}"
