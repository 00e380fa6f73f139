"""`evaluation.decoding`: answers by sampling, or by a beam search over solution steps, and how that goes (`beam`)."""

from __future__ import annotations

import dataclasses
from typing import Any

from omegaconf import DictConfig

from fpa_verl.errors import ConfigError
from fpa_verl.integration.config.steps import require_steps, step_settings, values_of
from fpa_verl.trees import BeamSettings

BEAM = "beam"


def decodes_by_beam(config: DictConfig) -> bool:
    """Whether answers are searched for, and not sampled.

    Raises:
        ConfigError: `evaluation.decoding` is neither.
    """
    decoding = config.evaluation.get("decoding", "sampling")
    if decoding not in ("sampling", BEAM):
        raise ConfigError(f"evaluation.decoding={decoding}: sampling or {BEAM} is wanted")
    return bool(decoding == BEAM)


def beam_settings(config: DictConfig) -> BeamSettings:
    """The search that a recipe asks for.

    Raises:
        ConfigError: a value is out of its bounds, of another kind, or no key of it.
    """
    return step_settings(BeamSettings, config, BEAM)


def require_beam(config: DictConfig) -> None:
    """Refuse a search that cannot be.

    Raises:
        ConfigError: saying which key, and what to set it to.
    """
    settings = beam_settings(config)
    if config.beam.value_model is None and (settings.width, settings.samples) != (1, 1):
        raise ConfigError(
            "beam.value_model=null: nothing says which step is the best of several; name a model with a value head, as "
            "recipe=svpo leaves it in RUN_DIR/best, or set beam.width=1 beam.samples=1"
        )
    require_steps(config, BEAM)


def describe_beam(config: DictConfig) -> dict[str, Any]:
    """What an evaluation says of how its answers came: nothing where they were sampled."""
    if not decodes_by_beam(config):
        return {}
    settings, rollout = dataclasses.asdict(beam_settings(config)), config.actor_rollout_ref.rollout
    about = {**settings, "delimiter": config.beam.delimiter, **values_of(config, BEAM)}
    # Steps are sampled as a tree search samples them, and not as `val_kwargs` has it.
    sampling = {"temperature": settings["temperature"], "top_p": rollout.top_p, "top_k": rollout.top_k}
    return {**sampling, "decoding": {"name": BEAM, **about}}
