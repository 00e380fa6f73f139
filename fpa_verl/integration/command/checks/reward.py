"""The scorer, called before anything starts: what it returns must be a verdict."""

from __future__ import annotations

from omegaconf import OmegaConf

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.facts import RunFacts
from fpa_verl.integration.config.identity import other_scorer
from fpa_verl.integration.say import say
from fpa_verl.reward.trial import require_tried
from fpa_verl.rollouts.problems import Problem, scored_as


def check(facts: RunFacts) -> None:
    """Refuse a scorer that is not there or returns no verdict; say from which score a response is right.

    Raises:
        ConfigError: saying which scorer, and what it did.
    """
    require_no_older_key(facts)
    if facts.kind.trains and facts.kind.reads_rollouts and (difference := other_scorer(facts)):
        say(f"note: {difference}; it trains on the one and is measured by the other")
    if not (facts.kind.reads_problems or facts.kind.evaluates):
        return
    # It may need a reward model, which is not there yet.
    if not facts.scorer.is_ours and not facts.config.reward.reward_model.enable:
        for problem in _one_of_each_set(facts):
            _try(facts, problem)
    if facts.scorer.threshold is not None:
        say(
            f"{facts.scorer}: a response is right from a score of {facts.scorer.threshold:g} on (reward.threshold); "
            "online and offline its reward is 1, that of any other 0"
        )


def require_no_older_key(facts: RunFacts) -> None:
    """Verl's former place of a reward function, which its trainer does not look at any more."""
    if older := OmegaConf.select(facts.config, "custom_reward_function.path"):
        raise ConfigError(
            f"custom_reward_function.path={older}: verl looks for it at "
            "reward.custom_reward_function.path (and .name), and would score with another"
        )


def _try(facts: RunFacts, problem: Problem) -> None:
    about = {**problem.extra_info, "problem_id": problem.problem_id}
    for warning in require_tried(facts.scorer, scored_as(problem), problem.ground_truth, about):
        say(f"warning: {warning}")


def _one_of_each_set(facts: RunFacts) -> list[Problem]:
    problems = facts.training_problems if facts.kind.reads_problems else []
    known = [*problems, *(facts.evaluation_problems if facts.kind.evaluates else [])]
    return list({problem.data_source: problem for problem in reversed(known)}.values())
