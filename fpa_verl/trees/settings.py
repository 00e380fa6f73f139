"""Settings of the searches and of what is made of trees: frozen, and checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from fpa_verl.bounds import bounded, out_of_bounds
from fpa_verl.errors import ConfigError


def cap(default: int | None) -> Any:
    """A field that says how many there may be; None: any number."""
    return bounded(default, at_least=1, whole=True, optional=True)


@dataclass(frozen=True)
class Settings:
    """Fields with bounds, and switches.

    Raises:
        ConfigError: a field is out of its bounds, or a switch neither on nor off.
    """

    group: ClassVar[str]
    """What they are called together, in errors."""

    def __post_init__(self) -> None:
        for name, value, bounds in out_of_bounds(self):
            raise ConfigError(f"{self.group}.{name}={value}: {bounds} is wanted")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool) and not isinstance(value, bool):
                raise ConfigError(f"{self.group}.{field.name}={value}: true or false is wanted")


@dataclass(frozen=True)
class StepSettings(Settings):
    """How steps are sampled, and when a solution is broken off.

    Attributes:
        temperature: of sampling.
        depth: steps of the deepest node that is continued; a step behind it that does not end the solution is wrong.
        max_step_tokens: a step that has not ended by then never will, and is wrong.
        max_response_tokens: of a whole solution.
        seed: of ties, and of the requests.
    """

    temperature: float = bounded(1.0, at_least=0)
    depth: int = bounded(8, at_least=1, whole=True)
    max_step_tokens: int = bounded(256, at_least=1, whole=True)
    max_response_tokens: int = bounded(2048, at_least=1, whole=True)
    seed: int = bounded(0, at_least=0, whole=True)
