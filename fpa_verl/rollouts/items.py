"""What one item of a batch is: a trajectory, a pair, a group, a pair of each mode, or two answers of several traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fpa_verl.rollouts.schema import EMPTY, THINKING
from fpa_verl.rollouts.selection import Members, Selection

# Says of rows which answers they give: the same number for the same answer.
Answers = Callable[[np.ndarray], np.ndarray]


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


def items_of(members: Members, selection: Selection, answers: Answers) -> Items:
    """The items of a batch that the selection makes of the mixed groups.

    Args:
        members: of the modes that it selects.
        selection: what an item is.
        answers: asked for unit "traces" alone, for it reads the responses.
    """
    limit = selection.pairs_per_group
    match selection.unit:
        case "group":
            return Items.of_sizes(members.rows, np.unique(members.group, return_counts=True)[1])
        case "pair":
            return _items(_paired(members, limit))
        case "pair_of_each_mode":
            thinking, empty = (_paired(members.of_mode(mode), limit) for mode in (THINKING, EMPTY))
            return _items(_side_by_side(thinking, empty))
        case "traces":
            return _items(_with_traces(members, answers(members.rows), selection.traces, limit))
        case "trajectory":
            every = np.ones_like(members.right)
            rows = members.rows[{"both": every, "right": members.right, "wrong": ~members.right}[selection.outcomes]]
            return _items(rows[:, None])


def _items(rows: np.ndarray) -> Items:
    """Items of as many rows each, (items, rows of one)."""
    return Items.of_sizes(rows.ravel(), np.full(*rows.shape))


def _paired(members: Members, limit: int | None) -> np.ndarray:
    """Rows of a right and of a wrong trajectory of one group, (pairs, 2)."""
    return members.rows[_pairs(members.group, members.right, limit)]


def _pairs(group: np.ndarray, right: np.ndarray, limit: int | None) -> np.ndarray:
    """Places of a right and of a wrong one of the same group, (pairs, 2).

    Args:
        group: (N,) whose; those of a group stand together.
        right: (N,) whether it is right, else wrong.
        limit: pairs of a group at most.
    """
    numbers = np.unique(group, return_inverse=True)[1]
    sides = [np.flatnonzero(right), np.flatnonzero(~right)]
    of_group = [np.bincount(numbers[side], minlength=numbers.max(initial=-1) + 1) for side in sides]
    pair_group, *places = pair_places(of_group[0], of_group[1], limit)
    starts = [np.cumsum(counts) - counts for counts in of_group]
    return np.stack(
        [side[start[pair_group] + place] for side, start, place in zip(sides, starts, places, strict=True)], axis=1
    )


def _side_by_side(thinking: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """A pair of each mode, (items, 4): every pair in as many items as any other of its mode, or one more.

    Which stand together is drawn once: pairs of the same problem err together, and their mix would vary more.
    """
    if not (len(thinking) and len(empty)):
        return np.empty((0, 4), dtype=thinking.dtype)
    at = np.arange(max(len(thinking), len(empty)))
    drawn = np.random.default_rng(0).permutation(len(empty))
    return np.concatenate([thinking[at % len(thinking)], empty[drawn[at % len(empty)]]], axis=1)


def _with_traces(members: Members, answers: np.ndarray, traces: int, limit: int | None) -> np.ndarray:
    """A right and a wrong answer, so many rows of each, which reach it by traces of their own: (items, 2 traces).

    An answer with fewer rows is left out, one with many gives several times so many, none of them twice.
    """
    order = np.lexsort((answers, ~members.right, members.group))
    key = np.stack([members.group, members.right, answers])[:, order]
    begins = np.flatnonzero(np.concatenate([[True], (np.diff(key) != 0).any(0)])) if len(order) else np.empty(0, int)
    sizes = np.diff(np.append(begins, len(order)))
    sets = sizes // traces
    first = np.repeat(begins, sets) + traces * (np.arange(sets.sum()) - np.repeat(np.cumsum(sets) - sets, sets))
    members_of_set = order[first[:, None] + np.arange(traces)]
    pairs = _pairs(members.group[members_of_set[:, 0]], members.right[members_of_set[:, 0]], limit)
    return members.rows[members_of_set[pairs]].reshape(-1, 2 * traces)


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
