"""Which trajectories train, and what one item of a batch is: a trajectory, a pair, or a group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from fpa_verl.errors import ConfigError
from fpa_verl.roles import PAIR, SINGLE, Roles
from fpa_verl.rollouts.index import group_numbers, scored
from fpa_verl.rollouts.schema import CUT_OFF

Unit = Literal["trajectory", "pair", "group"]
Outcomes = Literal["both", "right", "wrong"]
# What the rows of an item are, in their order; a group holds any number of trajectories.
ROLES: dict[Unit, Roles] = {"trajectory": SINGLE, "pair": PAIR, "group": SINGLE}
# Groups of which a right and a wrong trajectory are followed token by token.
WATCHED_GROUPS = 4


@dataclass(frozen=True)
class Selection:
    """What of a dataset is trained on.

    Attributes:
        unit: what one item of a batch is: a single trajectory; a right one of a group, chosen, and a wrong one,
            rejected; or all of a group.
        outcomes: which trajectories of the mixed groups; "right" and "wrong" for single ones only.
        pairs_per_group: pairs taken from a group, for unit "pair"; None takes all of them.
        keep_truncated: train on responses that were cut off (R = -1, as the paper does).
    """

    unit: Unit = "trajectory"
    outcomes: Outcomes = "both"
    pairs_per_group: int | None = None
    keep_truncated: bool = True

    def __post_init__(self) -> None:
        for name, kind in (("unit", Unit), ("outcomes", Outcomes)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(
                    f"data.selection.{name}={getattr(self, name)}: choose from {', '.join(get_args(kind))}"
                )
        if self.outcomes != "both" and self.unit != "trajectory":
            raise ConfigError(f"data.selection.outcomes={self.outcomes} leaves no {self.unit}: set unit=trajectory")
        if self.pairs_per_group is not None and (self.unit != "pair" or self.pairs_per_group < 1):
            raise ConfigError(
                f"data.selection.pairs_per_group={self.pairs_per_group}: at least 1, and for unit=pair alone"
            )

    @property
    def roles(self) -> Roles:
        """What an objective must learn from to be given these items."""
        return ROLES[self.unit]


@dataclass(frozen=True)
class Items:
    """Training items as rows of the dataset: item i is `rows[offsets[i] : offsets[i + 1]]`."""

    rows: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of_sizes(cls, rows: np.ndarray, sizes: np.ndarray) -> Items:
        return cls(rows, np.concatenate([[0], np.cumsum(sizes)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, item: int) -> tuple[int, ...]:
        return tuple(self.rows[self.offsets[item] : self.offsets[item + 1]].tolist())

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return (self[item] for item in range(len(self)))

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each item."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Members:
    """The trainable rows of the mixed groups, group by group in order of first appearance."""

    rows: np.ndarray
    group: np.ndarray
    right: np.ndarray
    pass_rate: np.ndarray


def members_of(index: pd.DataFrame, *, keep_truncated: bool) -> Members:
    """Rows of groups that hold both a right and a wrong trajectory; others carry no contrast.

    `pass_rate` is the share of right ones among all that were scored, kept or not.
    """
    rows = np.flatnonzero(scored(index))
    candidates = index.iloc[rows]
    group = group_numbers(candidates)
    right = (candidates["status"] == "right").to_numpy()
    kept = np.ones(len(rows), bool) if keep_truncated else (candidates["finish_reason"] != CUT_OFF).to_numpy()
    mixed = (np.bincount(group, right & kept) > 0) & (np.bincount(group, ~right & kept) > 0)
    trains = np.flatnonzero(kept & mixed[group])
    trains = trains[np.argsort(group[trains], kind="stable")]
    pass_rate = np.bincount(group, right) / np.maximum(1, np.bincount(group))
    return Members(rows[trains], group[trains], right[trains], pass_rate[group[trains]])


def watched_rows(index: pd.DataFrame) -> list[tuple[int, int]]:
    """A right and a wrong row of each of the first mixed groups, responses that were not cut off where there are any.

    They are the same for every run on a dataset, so that runs can be compared on them, whatever they select.
    """
    members = members_of(index, keep_truncated=True)
    near = np.isin(members.group, np.unique(members.group)[:WATCHED_GROUPS])
    rows = members.rows[near]
    candidates = pd.DataFrame(
        {
            "group": members.group[near],
            "wrong": ~members.right[near],
            "truncated": (index["finish_reason"].iloc[rows] == CUT_OFF).to_numpy(),
            "row": rows,
        }
    )
    first = candidates.sort_values(list(candidates)).drop_duplicates(["group", "wrong"])
    return [(right, wrong) for right, wrong in first["row"].to_numpy().reshape(-1, 2).tolist()]


def items_of(members: Members, selection: Selection) -> Items:
    """The items of a batch that the selection makes of the mixed groups."""
    match selection.unit:
        case "group":
            return Items.of_sizes(members.rows, np.unique(members.group, return_counts=True)[1])
        case "pair":
            return _pairs(members, selection.pairs_per_group)
        case "trajectory":
            every = np.ones_like(members.right)
            rows = members.rows[{"both": every, "right": members.right, "wrong": ~members.right}[selection.outcomes]]
            return Items.of_sizes(rows, np.ones_like(rows))


def _pairs(members: Members, limit: int | None) -> Items:
    right, wrong = (np.unique(members.group[side], return_counts=True)[1] for side in (members.right, ~members.right))
    group, right_place, wrong_place = pair_places(right, wrong, limit)
    rows = np.empty((len(group), 2), dtype=members.rows.dtype)
    rows[:, 0] = members.rows[members.right][(np.cumsum(right) - right)[group] + right_place]
    rows[:, 1] = members.rows[~members.right][(np.cumsum(wrong) - wrong)[group] + wrong_place]
    return Items.of_sizes(rows.ravel(), np.full(len(group), 2))


def pair_places(
    right: np.ndarray, wrong: np.ndarray, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct pairs of each group, every trajectory in as many as any other of its side, or one more.

    Both sides are gone through in circles; whenever the circles close together, one shifts by a place.

    Args:
        right: (G,) how many right trajectories each group has.
        wrong: (G,) how many wrong ones.
        limit: pairs a group at most; None: all right * wrong of them.

    Returns:
        For each pair its group, the place of its right trajectory among the group's, and of its wrong one.
    """
    number = right * wrong if limit is None else np.minimum(limit, right * wrong)
    group = np.repeat(np.arange(len(number)), number)
    k = np.arange(len(group)) - np.repeat(np.cumsum(number) - number, number)
    r, w = right[group], wrong[group]
    return group, k % r, (k + k // np.lcm(r, w)) % w
