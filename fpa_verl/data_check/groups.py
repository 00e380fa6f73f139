"""What is wrong with the groups of a dataset: rows that a look at each of them alone cannot tell. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fpa_verl.rollouts.index import group_numbers
from fpa_verl.rollouts.row_checks import Fault


def group_faults(rows: pd.DataFrame, rollouts_per_problem: int | None) -> Iterator[Fault]:
    """Groups that are not whole, or not of one problem posed in one way; and problems in two splits.

    Args:
        rows: one for each trajectory, of complete groups: problem_id and split (categories), group, sample,
            and numbers that stand for its prompt and its ground_truth.
        rollouts_per_problem: trajectories a group; None where any number will do.
    """
    group = group_numbers(rows)
    yield from _incomplete(group, rollouts_per_problem)
    for column, number in (("prompt_ids", "prompt"), ("ground_truth", "ground_truth")):
        differs = _differs_from_first(group, rows[number].to_numpy())
        yield from (Fault("groups", row, column, "is another than in the first row of its group") for row in differs)
    repeated = pd.DataFrame({"group": group, "sample": rows["sample"].to_numpy()}).duplicated()
    yield from (
        Fault("groups", int(row), "sample", f"is {rows['sample'].iloc[row]} for the second time in its group")
        for row in np.flatnonzero(repeated)
    )
    differs = _differs_from_first(rows["problem_id"].cat.codes.to_numpy(), rows["split"].cat.codes.to_numpy())
    yield from (
        Fault("splits", row, "split", f"is {rows['split'].iloc[row]!r}, but not in other rows of its problem")
        for row in differs
    )


def repeated_responses(rows: pd.DataFrame) -> tuple[int, int]:
    """How many trajectories repeat the response of an earlier one of their group, and in how many groups.

    Args:
        rows: one for each trajectory, with problem_id, group, and a number that stands for its response.
    """
    group = group_numbers(rows)
    repeated = pd.DataFrame({"group": group, "response": rows["response"].to_numpy()}).duplicated().to_numpy()
    return int(repeated.sum()), len(np.unique(group[repeated]))


def _incomplete(group: np.ndarray, expected: int | None) -> Iterator[Fault]:
    if expected is None:
        return
    _, firsts, sizes = np.unique(group, return_index=True, return_counts=True)
    for row, size in zip(firsts.tolist(), sizes.tolist(), strict=True):
        if size != expected:
            yield Fault(
                "groups", row, "sample", f"begins a group of {size} trajectories, where {expected} were sampled"
            )


def _differs_from_first(group: np.ndarray, values: np.ndarray) -> list[int]:
    """Rows whose value is not that of the first row of their group."""
    _, firsts, number = np.unique(group, return_index=True, return_inverse=True)
    return [int(row) for row in np.flatnonzero(values != values[firsts][number])]
