"""A reward function, called once for each set of problems before anything is paid for what it scores."""

from __future__ import annotations

from collections.abc import Iterable

from fpa_verl.errors import ConfigError
from fpa_verl.reward.function import RaisedError, RewardFunction
from fpa_verl.rollouts.problems import Problem, scored_as

THE_ANSWER = "the answer"


def one_of_each_set(problems: Iterable[Problem]) -> list[Problem]:
    """The first problem of each set."""
    found: dict[str, Problem] = {}
    for problem in problems:
        found.setdefault(problem.data_source, problem)
    return list(found.values())


def try_on(function: RewardFunction, problem: Problem) -> list[str]:
    """Have a response scored that gives the answer, one that gives another, and an empty one: models write all three.

    The answer is put in words that a scorer of any form may or may not find it in. A function that raises for a
    response without the answer can run: such responses do not train.

    Returns:
        What it raised for those.

    Raises:
        RaisedError: it raised for the answer.
        ConfigError: it is not there, or returned what is no verdict.
    """
    source, truth = scored_as(problem), problem.ground_truth
    about = {**problem.extra_info, "problem_id": problem.problem_id}
    tried = {THE_ANSWER: _saying(truth), "another answer": _saying(f"{truth}1"), "an empty response": ""}
    doubts = []
    for what, response in tried.items():
        told = f"it was tried with {what} on problem '{problem.problem_id}' of {source}"
        try:
            function(source, response, truth, dict(about))
        except RaisedError as error:
            if what == THE_ANSWER:
                raise RaisedError(f"{error}; {told}", error.what) from error
            doubts.append(f"{error.what} for {what}: such a response has the status error and does not train")
        except ConfigError as error:
            raise ConfigError(f"{error}; {told}") from error
    return doubts


def _saying(answer: str) -> str:
    return f"The answer is \\boxed{{{answer}}}.\n#### {answer}"
