"""What an objective is: typed hyper-parameters, what it needs, and a loss for each item of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Literal

import torch

from fpa_verl.bounds import bounded, out_of_bounds
from fpa_verl.objectives.trajectories import Trajectories


class Needs(Enum):
    """What an objective asks for beside the policy's own log-probabilities."""

    REFERENCE = "log-probabilities of the response under the reference"
    FUTURE_POLICY = "weights of the future policy, from the reference's logits"
    REFERENCE_POINT = "z0, from one more forward over the batch"


# Rows of a batch that make one item. The two of a pair are adjacent, the right one first.
ROWS_PER_ITEM = {"trajectory": 1, "pair": 2}

OBJECTIVES: dict[str, type[Objective]] = {}


def hyper_parameter(default: float, *, at_least: float | None = None, above: float | None = None) -> Any:
    """A number with a default and a lower bound, as a dataclass field of an `Objective`."""
    return bounded(default, at_least=at_least, above=above)


@dataclass(frozen=True)
class Objective(ABC):
    """Base of the objectives. A subclass is a frozen dataclass whose fields are its hyper-parameters.

    Defining a subclass registers it under its `name`.

    Raises:
        ValueError: a hyper-parameter is not a finite number within its bound.
    """

    name: ClassVar[str]
    # The unit that a loss belongs to, and that no split of a batch may take apart.
    unit: ClassVar[Literal["trajectory", "pair"]] = "trajectory"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        taken = OBJECTIVES.setdefault(cls.name, cls)
        if (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"the objective '{cls.name}' of {cls.__module__} is defined already by {taken.__module__}")

    def __post_init__(self) -> None:
        for name, value, bounds in out_of_bounds(self):
            raise ValueError(f"{name}={value}: {self.name} needs {bounds}")

    @property
    def needs(self) -> frozenset[Needs]:
        """What must be filled in `Trajectories` before `losses` is called."""
        return frozenset()

    @property
    def rows_per_item(self) -> int:
        """Rows of a batch that share one loss: 2 where the unit is a pair."""
        return ROWS_PER_ITEM[self.unit]

    def advantages(self, rewards: torch.Tensor, pass_rates: torch.Tensor) -> torch.Tensor:
        """What stands for the reward in `losses`; R itself unless overridden.

        Args:
            rewards: R in {+1, -1}, (B,).
            pass_rates: share of right trajectories in the whole group of each, (B,).
        """
        return rewards

    @abstractmethod
    def losses(self, batch: Trajectories) -> torch.Tensor:
        """The loss of every item: (B,) for unit "trajectory", (B/2,) for unit "pair"."""

    def __call__(self, batch: Trajectories) -> torch.Tensor:
        """`losses`, where an item with an empty response adds zero and still back-propagates."""
        has_tokens = batch.response_mask.bool().any(-1)
        if self.unit == "pair":
            if not bool((batch.rewards[0::2] > 0).all() and (batch.rewards[1::2] < 0).all()):
                raise ValueError(f"{self.name} needs pairs: adjacent rows, the right trajectory first")
            has_tokens = has_tokens[0::2] & has_tokens[1::2]
        losses = self.losses(batch)
        return torch.where(has_tokens, losses, losses.new_zeros(()))


def of_pair(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The values of the right and the wrong trajectory of each pair: (B,) -> (B/2,), (B/2,)."""
    return values[0::2], values[1::2]
