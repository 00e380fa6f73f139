"""What an objective is: typed hyper-parameters, what it needs, and a loss for each item of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import torch

from fpa_verl.bounds import bounded, out_of_bounds
from fpa_verl.objectives.trajectories import Trajectories
from fpa_verl.roles import SINGLE, Roles


class Needs(Enum):
    """What an objective asks for beside the policy's own log-probabilities."""

    REFERENCE = "log-probabilities of the response under the reference"
    FUTURE_POLICY = "weights of the future policy, from the reference's logits"
    REFERENCE_POINT = "z0, from one more forward over the batch"
    MEAN_LENGTH = "tokens a trajectory of the global batch"
    PASS_RATES = "share of right trajectories in the group of each"
    MIXING_WEIGHT = "weight of the gradient of traces, estimated from both gradients"
    STEP_VALUES = "values of a head on the trunk, and what they are to be, at the ends of steps"

    @property
    def field(self) -> str:
        """Where `Trajectories` holds it."""
        return _FIELDS[self]


_FIELDS = {
    Needs.REFERENCE: "ref_log_probs",
    Needs.FUTURE_POLICY: "future_weights",
    Needs.REFERENCE_POINT: "reference_point",
    Needs.MEAN_LENGTH: "mean_length",
    Needs.PASS_RATES: "pass_rates",
    Needs.MIXING_WEIGHT: "mixing_weight",
    Needs.STEP_VALUES: "step_ends",
}

# In the place of a number: the one that is found while a run trains.
AUTO = "auto"

OBJECTIVES: dict[str, type[Objective]] = {}


def hyper_parameter(
    default: float, *, at_least: float | None = None, above: float | None = None, whole: bool = False
) -> Any:
    """A number with a default and a lower bound, as a dataclass field of an `Objective`."""
    return bounded(default, at_least=at_least, above=above, whole=whole)


@dataclass(frozen=True)
class Objective(ABC):
    """Base of the objectives. A subclass is a frozen dataclass whose fields are its hyper-parameters.

    Defining a subclass registers it under its `name`.

    Raises:
        ValueError: a hyper-parameter is not a finite number within its bound, or none of its words.
    """

    name: ClassVar[str]
    # The adjacent rows that a loss belongs to, in this order, and that no split of a batch may take apart. A property
    # where hyper-parameters decide it, and then of instances alone.
    roles: ClassVar[Roles] = SINGLE

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
    def extrapolation(self) -> float | None:
        """Lambda of the future policy whose weights are among the `needs` (Eq. 4); 0: it needs none.

        None: it is found while a run trains, and comes with every batch.
        """
        return 0.0

    def reference_point(self, mean_log_ratio: torch.Tensor) -> torch.Tensor:
        """z0 of those that need it, from the mean log-ratio over the trajectories of the global batch, () -> ()."""
        return mean_log_ratio

    @property
    def rows_per_item(self) -> int:
        """Rows of a batch that share one loss."""
        return len(self.roles)

    def by_role(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The values of the rows of each role, (B,) -> (B / roles,) for every one of them."""
        return tuple(values[place :: len(self.roles)] for place in range(len(self.roles)))

    def missing(self, batch: Trajectories) -> list[Needs]:
        """What the objective needs and the batch does not hold."""
        return [need for need in Needs if need in self.needs and getattr(batch, need.field) is None]

    @abstractmethod
    def losses(self, batch: Trajectories) -> torch.Tensor:
        """The loss of every item, (B / roles,)."""

    def metrics(self, batch: Trajectories) -> Mapping[str, torch.Tensor]:
        """What is told of a batch beside its loss, each (B / roles,): means over the global batch are logged."""
        return {}

    def __call__(self, batch: Trajectories) -> torch.Tensor:
        """`losses`, where an item with an empty response adds zero and still back-propagates.

        Raises:
            ValueError: something that the objective needs is missing, or rows are not in the order of its roles.
        """
        if missing := self.missing(batch):
            raise ValueError(f"{self.name} got no {missing[0].value}")
        rows = batch.response_mask.shape[0]
        if self.rows_per_item > 1 and batch.roles != self.roles * (rows // self.rows_per_item):
            what = "pairs" if self.rows_per_item == 2 else f"items of {self.rows_per_item} rows"
            raise ValueError(f"{self.name} needs {what}: adjacent rows, their `roles` {', '.join(self.roles)}")
        has_tokens = batch.response_mask.bool().any(-1).view(-1, self.rows_per_item).all(-1)
        losses = self.losses(batch)
        return torch.where(has_tokens, losses, losses.new_zeros(()))
