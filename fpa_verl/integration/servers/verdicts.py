"""Reading what the scorer returned. The contract is in docs/own_task.md, "Your own scorer"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from fpa_verl.errors import ConfigError
from fpa_verl.rollouts.schema import MODEL_STATUSES, SCORER_STATUSES

STATUSES = (*MODEL_STATUSES, *SCORER_STATUSES)


def returned_by_scorer(verdict: Mapping[str, Any], name: str, config: DictConfig) -> Any:
    """Entry `name` of what the scorer returned for one response.

    Args:
        verdict: all that it returned beside the score; None stands for what is missing.
        name: status or extracted.
        config: the recipe, which says whose function it was.

    Raises:
        ConfigError: the scorer does not keep the contract.
    """
    value = verdict.get(name)
    if value is None:
        raise _broken(f"returned no '{name}' for a response", config)
    if name == "status" and value not in STATUSES:
        raise _broken(f"returned status '{value}', which is none of {', '.join(STATUSES)}", config)
    return value


def _broken(what: str, config: DictConfig) -> ConfigError:
    scorer = config.reward.custom_reward_function
    return ConfigError(
        f"the scorer {scorer.name} in {scorer.path} {what}: return what docs/own_task.md lists under 'Your own "
        "scorer', or leave reward.custom_reward_function as the recipe has it"
    )
