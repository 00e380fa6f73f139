"""Reading a finished rollout dataset: which trajectories train, one by one or as whole groups."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.files import sha256_of
from fpa_verl.rollouts.manifest import Manifest, Shard, read_manifest
from fpa_verl.rollouts.schema import MODEL_STATUSES, TRAIN, schema_difference

Unit = Literal["trajectory", "pair", "group"]
Outcomes = Literal["both", "right", "wrong"]


@dataclass(frozen=True)
class Selection:
    """What of a dataset is trained on.

    Attributes:
        unit: what one item of a batch is: a single trajectory, a right and a wrong one of the same
            group, or all of a group.
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


def pairs_of(right: list[int], wrong: list[int], limit: int | None = None) -> list[tuple[int, int]]:
    """Distinct pairs (right, wrong) of a group, each trajectory used as often as any other, or once more.

    Both sides are gone through in circles; whenever the circles close together, one shifts by a place.
    The first `limit` of these pairs, or all len(right) * len(wrong).
    """
    r, w = len(right), len(wrong)
    count = r * w if limit is None else min(limit, r * w)
    period = lcm(r, w)
    return [(right[k % r], wrong[(k + k // period) % w]) for k in range(count)]


class RolloutDataset:
    """A finished dataset in memory, indexed by training item.

    `items[i]` is the tuple of rows that make up item i: one row for unit "trajectory", a right and a
    wrong one for "pair", all trainable rows of a mixed group for "group". Groups all right or all
    wrong carry no contrast and are left out of each; `manifest.counts` says how many there were.
    """

    def __init__(self, folder: str | Path, selection: Selection | None = None) -> None:
        self.folder = Path(folder).expanduser()
        self.selection = selection or Selection()
        self.manifest: Manifest = read_manifest(self.folder)
        self.table = _read_shards(self.folder, self.manifest.shards)
        self._pass_rates: dict[int, float] = {}
        self.items = self._items()

    def __len__(self) -> int:
        return len(self.items)

    def rows(self, item: int) -> list[dict[str, Any]]:
        """The rows of one item: `SCHEMA`'s columns, `row`, the place in the dataset, and its group's `pass_rate`."""
        return [self.row(row) for row in self.items[item]]

    def row(self, row: int) -> dict[str, Any]:
        """One row that an item holds; `pass_rate` is the share of its group's scored trajectories that are right."""
        # slice() and not take(): the latter walks the whole chunked table at every call.
        return {**self.table.slice(row, 1).to_pylist()[0], "row": row, "pass_rate": self._pass_rates[row]}

    def lengths(self) -> list[int]:
        """Tokens of prompt and response of every row of the dataset."""
        columns = (pc.list_value_length(self.table[name]) for name in ("prompt_ids", "response_ids"))
        return pc.add(*columns).to_pylist()

    def _items(self) -> list[tuple[int, ...]]:
        items: list[tuple[int, ...]] = []
        for right, wrong in self._mixed_groups():
            match self.selection.unit:
                case "group":
                    items.append(tuple(sorted(right + wrong)))
                case "pair":
                    items.extend(pairs_of(right, wrong, self.selection.pairs_per_group))
                case "trajectory":
                    kept = {"both": sorted(right + wrong), "right": right, "wrong": wrong}[self.selection.outcomes]
                    items.extend((row,) for row in kept)
        return items

    def _mixed_groups(self) -> list[tuple[list[int], list[int]]]:
        """Right and wrong trainable rows of each group that has both; fills in the pass rates."""
        columns = ["problem_id", "group", "split", "status", "finish_reason"]
        groups: dict[tuple[str, int], list[tuple[int, bool, bool]]] = defaultdict(list)
        for index, row in enumerate(self.table.select(columns).to_pylist()):
            if row["split"] == TRAIN and row["status"] in MODEL_STATUSES:
                kept = self.selection.keep_truncated or row["finish_reason"] != "length"
                groups[row["problem_id"], row["group"]].append((index, row["status"] == "right", kept))
        mixed = []
        for members in groups.values():
            pass_rate = sum(is_right for _, is_right, _ in members) / len(members)
            right, wrong = ([i for i, is_right, kept in members if kept and is_right is side] for side in (True, False))
            if right and wrong:
                mixed.append((right, wrong))
                self._pass_rates.update(dict.fromkeys(right + wrong, pass_rate))
        return mixed

    def require_items(self, batch_size: int) -> None:
        """Refuse a dataset that cannot fill one batch, saying what became of its groups."""
        counts = self.manifest.counts
        outcome = ", ".join(
            f"{counts[f'groups_{kind}']} {kind.replace('_', ' ')}"
            for kind in ("mixed", "all_right", "all_wrong", "unscored")
        )
        if not self.items:
            raise DatasetError(
                f"nothing to train on in {self.folder}: no group holds both right and wrong trajectories "
                f"(groups: {outcome}). Collect with another model, easier or harder problems, or more "
                "rollouts a problem (actor_rollout_ref.rollout.n)"
            )
        if len(self.items) < batch_size:
            raise DatasetError(
                f"{self.folder} has {len(self.items)} training {self.selection.unit} items, fewer than one "
                f"batch of {batch_size} (groups: {outcome}). Lower data.train_batch_size or collect more"
            )


def _read_shards(folder: Path, shards: list[Shard]) -> pa.Table:
    tables = []
    for shard in shards:
        path = folder / shard.file
        if Path(shard.file).name != shard.file:
            raise DatasetError(f"{folder}: the manifest names {shard.file}, which lies outside the dataset")
        if not path.exists():
            raise DatasetError(f"{path} is missing: restore it, or collect or import again")
        if sha256_of(path) != shard.sha256:
            raise DatasetError(f"{path} is damaged (its checksum is not the manifest's): restore it")
        table = pq.read_table(path)
        if difference := schema_difference(table.schema):
            raise DatasetError(f"{path}: {difference}")
        _check_lengths(path, table)
        tables.append(table)
    if not tables:
        raise DatasetError(f"{folder} is empty: its manifest names no shard. Collect or import again")
    return pa.concat_tables(tables).unify_dictionaries()


def _check_lengths(path: Path, table: pa.Table) -> None:
    """Every response has tokens, and a behaviour log-prob for each token or for none."""
    columns = (table[name].to_pylist() for name in ("prompt_ids", "response_ids", "behaviour_log_probs"))
    for row, (prompt, response, log_probs) in enumerate(zip(*columns, strict=True)):
        if not prompt or not response:
            raise DatasetError(f"{path}, row {row}: column 'response_ids' or 'prompt_ids' is empty")
        if log_probs is not None and len(log_probs) != len(response):
            raise DatasetError(
                f"{path}, row {row}: column 'behaviour_log_probs' has {len(log_probs)} values for "
                f"{len(response)} response tokens"
            )
