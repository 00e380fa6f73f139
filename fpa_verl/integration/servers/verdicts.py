"""Verdicts as they come back from verl's reward loop. The contract is in docs/own_task.md, "Your own scorer"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.settings import scorer_of
from fpa_verl.integration.say import say
from fpa_verl.reward.verdicts import STATUSES

# What stands in a verdict beside, or in the place of, what the scorer returned: why that is none, and what it raised.
BROKEN, RAISED = "contract_broken", "scorer_raised"


def returned_by_scorer(verdict: Mapping[str, Any], name: str, config: DictConfig) -> Any:
    """Entry `name` of the verdict on one response.

    Args:
        verdict: what the reward manager returned beside the score; None stands for what is missing.
        name: status or extracted.
        config: the recipe, which says whose function it was.

    Raises:
        ConfigError: the scorer does not keep the contract.
    """
    if verdict.get(BROKEN):
        raise ConfigError(str(verdict[BROKEN]))
    value = verdict.get(name)
    if value is None:
        what = f"returned no '{name}' for a response, and reward.reward_manager is not the recipe's, which would add it"
        raise ConfigError(scorer_of(config).broken(what))
    if name == "status" and value not in STATUSES:
        raise ConfigError(scorer_of(config).broken(f"returned status '{value}', none of {', '.join(STATUSES)}"))
    return value


def note_failures(verdicts: Iterable[Mapping[str, Any]], config: DictConfig) -> None:
    """Say once what the scorer raised; those responses have the status error.

    Raises:
        ConfigError: it raised for every one of them.
    """
    everything = list(verdicts)
    raised = [verdict[RAISED] for verdict in everything if verdict.get(RAISED)]
    if not raised:
        return
    what = f"raised for {len(raised):,} of {len(everything):,} responses, first {raised[0]}"
    if len(raised) == len(everything):
        raise ConfigError(scorer_of(config).broken(what))
    say(f"note: the scorer {scorer_of(config)} {what}; they count as error and train nothing")
