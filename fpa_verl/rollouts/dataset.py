"""Reading a finished rollout dataset by training item."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from fpa_verl.errors import DatasetError
from fpa_verl.reward.verdicts import SCORER_STATUSES
from fpa_verl.roles import TRAJECTORY
from fpa_verl.rollouts.index import count, read_index
from fpa_verl.rollouts.items import items_of
from fpa_verl.rollouts.manifest import MANIFEST_FILE, Manifest, read_manifest
from fpa_verl.rollouts.schema import MODES, THINKING
from fpa_verl.rollouts.selection import MODES_OF_UNITS, Selection, members_of, watched_rows
from fpa_verl.rollouts.shards import Shards
from fpa_verl.rollouts.traces import BOTH


class RolloutDataset:
    """A finished dataset: the index is in memory, tokens are read as they are asked for.

    `items[i]` are the rows that make up item i of the selection's unit (`items_of`). Groups all right or all wrong
    carry no contrast and are left out of each; `manifest.counts` says how many there were. `watched` are the rows, a
    right and a wrong one of a group, that are followed token by token.

    Raises:
        DatasetError: no such dataset, not finished, or a file of it is missing or cut off. Damage inside
            a shard shows when it is first read, or in `verify`: no row of a damaged one is handed out.
    """

    def __init__(self, folder: str | Path, selection: Selection | None = None) -> None:
        self.folder = Path(folder).expanduser()
        self.selection = selection or Selection()
        self.manifest: Manifest = read_manifest(self.folder)
        self._index = read_index(self.folder, self.manifest.index)
        self._shards = Shards(self.folder, self.manifest, self._index)
        self.watched = watched_rows(self._index)
        self._watched = {row for pair in self.watched for row in pair}
        members = members_of(self._index, keep_truncated=self.selection.keep_truncated, modes=self.selection.modes)
        self.items = items_of(members, self.selection, self._answers)
        self._pass_rates = np.full(len(self._index), np.nan)
        self._pass_rates[members.rows] = members.pass_rate

    def __len__(self) -> int:
        return len(self.items)

    def _answers(self, rows: np.ndarray) -> np.ndarray:
        """Which answer each row gives: the tokens behind its trace. What was cut off within that is like no other."""
        numbers: dict[tuple[int, ...], int] = {}
        found = np.empty(len(rows), dtype=np.int64)
        for place in np.argsort(rows, kind="stable"):
            row = self._shards[int(rows[place])]
            answer = tuple(row["response_ids"][row["trace_tokens"] :]) or (-1 - int(rows[place]),)
            found[place] = numbers.setdefault(answer, len(numbers))
        return found

    def rows(self, item: int) -> list[dict[str, Any]]:
        """The rows of one item: `SCHEMA`'s columns, `row`, the place in the dataset, and what `row` adds."""
        members = self.items[item]
        return [
            {**self.row(row), "role": role} for row, role in zip(members, cycle(self.selection.roles), strict=False)
        ]

    def row(self, row: int) -> dict[str, Any]:
        """One row that an item holds.

        `pass_rate` is the share of its group's scored trajectories that are right; `watched`, whether it is followed;
        `role`, what it is by itself.
        """
        known = {
            "row": row,
            "pass_rate": float(self._pass_rates[row]),
            "watched": row in self._watched,
            "role": TRAJECTORY,
        }
        return {**self._shards[row], **known}

    def find(self, name: str) -> int:
        """The row of a trajectory by its name, PROBLEM/GROUP/SAMPLE as errors and batches have it, or its number.

        Raises:
            DatasetError: there is none.
        """
        if name.isdecimal() and int(name) < len(self._index):
            return int(name)
        problem_id, _, rest = name.rpartition("/")
        problem_id, _, group = problem_id.rpartition("/")
        if problem_id and group.isdecimal() and rest.isdecimal():
            near = (self._index["problem_id"] == problem_id) & (self._index["group"] == int(group))
            for row in np.flatnonzero(near.to_numpy()).tolist():
                if self._shards[row]["sample"] == int(rest):
                    return row
        raise DatasetError(
            f"{self.folder} has no trajectory '{name}': give PROBLEM/GROUP/SAMPLE, or a row from 0 to "
            f"{len(self._index) - 1}"
        )

    @classmethod
    def of_all_modes(cls, folder: str | Path) -> RolloutDataset:
        """All trajectories of mixed groups, in whichever modes they were sampled."""
        there = {mode for mode in MODES if read_manifest(Path(folder).expanduser()).counts.get(f"mode_{mode}")}
        # A dataset of the usual mode alone does not count it.
        return cls(folder, Selection(mode=BOTH if len(there) > 1 else next(iter(there), THINKING)))

    def first_without_own_value(self) -> int | None:
        """The first row of an item that has no value where its response ends; None where all have one."""
        step_ends = self._shards.column("step_ends")
        numbers = pc.fill_null(pc.list_value_length(step_ends), 0).to_numpy()
        last = np.full(len(self._index), -1)
        last[numbers > 0] = step_ends.flatten().to_numpy()[(np.cumsum(numbers) - 1)[numbers > 0]]
        rows = np.unique(self.items.rows)
        without = rows[last[rows] != self.lengths()[rows] - 1]
        return int(without[0]) if len(without) else None

    def lengths(self) -> np.ndarray:
        """Tokens of prompt and response of every row of the dataset."""
        return (self._index["prompt_tokens"] + self._index["response_tokens"]).to_numpy()

    def response_lengths(self) -> np.ndarray:
        """Tokens of the response of every row of the dataset."""
        return self._index["response_tokens"].to_numpy()

    def share(self, modes: Sequence[str]) -> float:
        """Of all tokens that were sampled, those of some modes."""
        tokens = self._index["response_tokens"]
        return float(tokens[self._index["mode"].isin(modes)].sum() / tokens.sum())

    @property
    def longest_response(self) -> int:
        """Tokens of the longest response."""
        return int(self.response_lengths().max())

    @property
    def bytes(self) -> int:
        """Size of all shards on disk."""
        return self._shards.bytes

    def verify(self) -> None:
        """Read everything and compare it with checksums, schema, index and counts.

        Raises:
            DatasetError: naming file, row and column.
        """
        self._shards.verify()
        if differ := miscounted(self.manifest, self._index):
            raise DatasetError(f"{self.folder / MANIFEST_FILE}: {differ[0]}; restore it")

    def _silent(self) -> str:
        """Where most responses are without an answer: that the scorer may be the cause, and not the problems."""
        counts, scorer = self.manifest.counts, self.manifest.fingerprints.get("scorer")
        silent, everything = counts.get("status_no_answer", 0), counts.get("trajectories", 0)
        unscored = sum(counts.get(f"status_{one}", 0) for one in SCORER_STATUSES)
        if 2 * unscored > everything:
            return (
                f"{unscored:,} of {everything:,} responses could not be scored by {scorer}: `fpa-verl data check "
                f"{self.folder}` says why. "
            )
        if 2 * silent <= everything:
            return ""
        return (
            f"In {silent:,} of {everything:,} responses {scorer} found no answer: is it the scorer for these problems "
            "(reward.custom_reward_function; `data import --reward`)? "
        )

    def _require_modes(self) -> None:
        """Refuse a dataset without a mode that is to train.

        Raises:
            DatasetError: naming what there is.
        """
        there = [mode for mode in MODES if (self._index["mode"] == mode).any()]
        if missing := [mode for mode in self.selection.modes if mode not in there]:
            other = "" if self.selection.unit in MODES_OF_UNITS else f"set data.selection.mode={there[0]}, or "
            raise DatasetError(
                f"{self.folder} has no responses of the mode {missing[0]}, which data.selection asks for (unit="
                f"{self.selection.unit}), only of {' and '.join(there)}: {other}collect both, recipe=collect "
                "collect.mode=both"
            )

    def require_items(self, batch_size: int) -> None:
        """Refuse a dataset that cannot fill one batch, saying what became of its groups."""
        self._require_modes()
        counts = self.manifest.counts
        outcome = ", ".join(
            f"{counts.get(f'groups_{kind}', 0)} {kind.replace('_', ' ')}"
            for kind in ("mixed", "all_right", "all_wrong", "unscored")
        )
        if not self.items and self.selection.unit == "traces" and counts.get("groups_mixed"):
            number = self.selection.traces
            raise DatasetError(
                f"nothing to train on in {self.folder}: no problem has a right and a wrong answer that {number} "
                "responses each give, token for token: where answers are short, collect more rollouts a problem "
                "(actor_rollout_ref.rollout.n)"
            )
        if not self.items and len(self.selection.modes) > 1 and counts.get("groups_mixed"):
            raise DatasetError(
                f"nothing to train on in {self.folder}: of one mode alone there are groups of right and wrong "
                "responses, and an item has a pair of each. Collect more rollouts a problem "
                "(actor_rollout_ref.rollout.n), or train on one mode, recipe=dpo data.selection.mode=thinking or empty"
            )
        if not self.items:
            raise DatasetError(
                f"nothing to train on in {self.folder}: no group holds both right and wrong trajectories "
                f"(groups: {outcome}). {self._silent()}Collect with another model, easier or harder problems, or more "
                "rollouts a problem (actor_rollout_ref.rollout.n)"
            )
        if len(self.items) < batch_size:
            raise DatasetError(
                f"{self.folder} has {len(self.items)} training {self.selection.unit} items, fewer than one "
                f"batch of {batch_size} (groups: {outcome}). Lower data.train_batch_size or collect more"
            )


def miscounted(manifest: Manifest, index: pd.DataFrame) -> list[str]:
    """Counts of the manifest that are not those of the index, in words."""
    written, counted = manifest.counts, count(index)
    return [
        f"{name} is {written.get(name)}, by the index {counted.get(name)}"
        for name in sorted({*written, *counted})
        if written.get(name) != counted.get(name)
    ]
