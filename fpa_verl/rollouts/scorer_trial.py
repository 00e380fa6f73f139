"""A reward function, called once for each set of problems before anything is paid for what it scores."""

from __future__ import annotations

from collections.abc import Iterable

from fpa_verl.errors import ConfigError
from fpa_verl.reward.function import RaisedError, RewardFunction
from fpa_verl.rollouts.problems import Problem
from fpa_verl.rollouts.schema import VALIDATION_SUFFIX


def one_of_each_set(problems: Iterable[Problem]) -> list[Problem]:
    """The first problem of each set."""
    found: dict[str, Problem] = {}
    for problem in problems:
        found.setdefault(problem.data_source, problem)
    return list(found.values())


def try_on(function: RewardFunction, problem: Problem) -> None:
    """Have a response scored that gives the answer, in words that a scorer of any form may or may not find it in.

    Raises:
        RaisedError: the function raised.
        ConfigError: it is not there, or returned what is no verdict.
    """
    response = f"The answer is \\boxed{{{problem.ground_truth}}}.\n#### {problem.ground_truth}"
    source = problem.data_source.removesuffix(VALIDATION_SUFFIX)
    try:
        function(source, response, problem.ground_truth, {**problem.extra_info, "problem_id": problem.problem_id})
    except ConfigError as error:
        kind = RaisedError if isinstance(error, RaisedError) else ConfigError
        raise kind(f"{error}; it was tried on problem '{problem.problem_id}' of {source}") from error
