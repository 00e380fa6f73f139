"""Which trajectories of a dataset train: what a recipe selects, and the rows of mixed groups that are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
import pandas as pd

from fpa_verl.errors import ConfigError
from fpa_verl.roles import PAIR, PAIR_OF_EACH_MODE, SINGLE, Roles, of_traces
from fpa_verl.rollouts.index import group_numbers, scored
from fpa_verl.rollouts.schema import CUT_OFF, MODES, THINKING
from fpa_verl.rollouts.traces import modes_of

Unit = Literal["trajectory", "pair", "group", "pair_of_each_mode", "traces"]
Outcomes = Literal["both", "right", "wrong"]
# What the rows of an item are, in their order; a group holds any number of trajectories, "traces" as many as are set.
ROLES: dict[Unit, Roles] = {
    "trajectory": SINGLE,
    "pair": PAIR,
    "group": SINGLE,
    "pair_of_each_mode": PAIR_OF_EACH_MODE,
}
# Units that say themselves in which mode their trajectories were sampled.
MODES_OF_UNITS: dict[Unit, str] = {"pair_of_each_mode": "both", "traces": THINKING}
PAIRED = ("pair", "pair_of_each_mode", "traces")
# Groups of which a right and a wrong trajectory are followed token by token.
WATCHED_GROUPS = 4


@dataclass(frozen=True)
class Selection:
    """What of a dataset is trained on.

    Attributes:
        unit: what one item of a batch is: a single trajectory; a right one of a group, chosen, and a wrong one,
            rejected; all of a group; such a pair that was sampled thinking and another that was not; or a right and a
            wrong answer, each reached by several traces.
        outcomes: which trajectories of the mixed groups; "right" and "wrong" for single ones only.
        pairs_per_group: pairs taken from a group, for pairs; None takes all of them.
        keep_truncated: train on responses that were cut off (R = -1, as the paper does).
        mode: "thinking", "empty" or "both": in which mode they were sampled. A unit that says so itself takes what it
            says.
        traces: traces of an answer, for unit "traces".
    """

    unit: Unit = "trajectory"
    outcomes: Outcomes = "both"
    pairs_per_group: int | None = None
    keep_truncated: bool = True
    mode: str = THINKING
    traces: int = 2

    def __post_init__(self) -> None:
        for name, kind in (("unit", Unit), ("outcomes", Outcomes)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(
                    f"data.selection.{name}={getattr(self, name)}: choose from {', '.join(get_args(kind))}"
                )
        if self.outcomes != "both" and self.unit != "trajectory":
            raise ConfigError(f"data.selection.outcomes={self.outcomes} leaves no {self.unit}: set unit=trajectory")
        if self.pairs_per_group is not None and (self.unit not in PAIRED or self.pairs_per_group < 1):
            raise ConfigError(
                f"data.selection.pairs_per_group={self.pairs_per_group}: at least 1, and for unit={' or '.join(PAIRED)}"
            )
        modes_of(self.mode, "data.selection.mode")
        if self.unit in MODES_OF_UNITS and self.mode != THINKING:
            raise ConfigError(
                f"data.selection.mode={self.mode}: unit={self.unit} takes {MODES_OF_UNITS[self.unit]} whatever it "
                "says; leave it out"
            )
        if self.traces < 1:
            raise ConfigError(f"data.selection.traces={self.traces}: at least 1")

    @property
    def roles(self) -> Roles:
        """What an objective must learn from to be given these items."""
        return of_traces(self.traces) if self.unit == "traces" else ROLES[self.unit]

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes in which its trajectories were sampled."""
        return modes_of(MODES_OF_UNITS.get(self.unit, self.mode), "data.selection.mode")


@dataclass(frozen=True)
class Members:
    """The trainable rows of the mixed groups, group by group in order of first appearance."""

    rows: np.ndarray
    group: np.ndarray
    right: np.ndarray
    pass_rate: np.ndarray
    mode: np.ndarray

    def of_mode(self, mode: str) -> Members:
        """Those that were sampled in it."""
        mine = self.mode == mode
        return Members(*(getattr(self, field.name)[mine] for field in fields(self)))


def members_of(index: pd.DataFrame, *, keep_truncated: bool, modes: Sequence[str] = MODES) -> Members:
    """Rows of groups that hold both a right and a wrong trajectory; others carry no contrast.

    `pass_rate` is the share of right ones among all that were scored, kept or not.
    """
    rows = np.flatnonzero(scored(index) & index["mode"].isin(modes))
    candidates = index.iloc[rows]
    group = group_numbers(candidates)
    right = (candidates["status"] == "right").to_numpy()
    kept = np.ones(len(rows), bool) if keep_truncated else (candidates["finish_reason"] != CUT_OFF).to_numpy()
    mixed = (np.bincount(group, right & kept) > 0) & (np.bincount(group, ~right & kept) > 0)
    trains = np.flatnonzero(kept & mixed[group])
    trains = trains[np.argsort(group[trains], kind="stable")]
    pass_rate = np.bincount(group, right) / np.maximum(1, np.bincount(group))
    mode = candidates["mode"].to_numpy(object)
    return Members(rows[trains], group[trains], right[trains], pass_rate[group[trains]], mode[trains])


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
