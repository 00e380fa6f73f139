"""Writes a rollout dataset shard by shard; an interrupted one goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.files import write_json
from fpa_verl.rollouts.index import LENGTHS, TAKEN, count, index_of, write_index
from fpa_verl.rollouts.manifest import FileRecord, Manifest
from fpa_verl.rollouts.parquet import read_table, write_table
from fpa_verl.rollouts.schema import Trajectory, to_table
from fpa_verl.rollouts.shards import ROW_GROUP

PLAN_FILE = "plan.json"
REMEDY = "delete it and repeat the command; what it held is made again"


def require_same_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Refuse a folder in which something else was made or begun.

    Args:
        folder: a dataset's, which may not be there yet.
        plan: what is to be made.

    Raises:
        DatasetError: the plan in the folder is damaged.
        MismatchError: another plan is there; it names what differs.
    """
    file = folder / PLAN_FILE
    if not file.exists():
        return
    before, now = _settings(_read_plan(file)), _settings(json.loads(json.dumps(plan)))
    changed = [
        f"{name} ({before.get(name, 'none')}, now {now.get(name, 'none')})"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise MismatchError(
            f"{folder} was begun with another {', '.join(changed)}: name another folder, or delete this one to start "
            "over"
        )


def _settings(plan: dict[str, Any]) -> dict[str, Any]:
    """All that a plan says, each under the name of its part as well; a fingerprint under that of what it is of."""
    found: dict[str, Any] = {}
    for name, value in plan.items():
        parts = value if isinstance(value, dict) else {"": value}
        group = "" if name == "fingerprints" else name
        found |= {".".join(filter(None, (group, part))): one for part, one in parts.items()}
    return found


def _read_plan(file: Path) -> dict[str, Any]:
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file} is damaged ({error}): name another folder, or delete this one") from error
    if not isinstance(plan, dict):
        raise DatasetError(f"{file} is damaged (no JSON object): name another folder, or delete this one")
    return plan


class PartWriter:
    """Writes `part-NNNNN.parquet` files under `folder`.

    Args:
        folder: created if absent.
        plan: what is being made (fingerprints, sampling). Kept beside the shards: going on with
            another plan would mix two datasets and is refused.
    """

    # Rows that are read together; None: all of a file.
    row_group: ClassVar[int | None] = None

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.folder = folder
        self.plan = plan
        folder.mkdir(parents=True, exist_ok=True)
        require_same_plan(folder, plan)
        if not (folder / PLAN_FILE).exists():
            write_json(folder / PLAN_FILE, plan)
        self._next = 1 + max((int(part.stem.split("-")[1]) for part in self._parts()), default=-1)

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _done(self, *columns: str) -> set[tuple[Any, ...]]:
        """What the rows on disk have in these columns."""
        tables = (read_table(part, columns, remedy=REMEDY) for part in self._parts())
        return {
            values for table in tables for values in zip(*(table[name].to_pylist() for name in columns), strict=True)
        }

    def _write(self, number: int, table: pa.Table) -> None:
        write_table(self.folder / f"part-{number:05d}.parquet", table, row_group_size=self.row_group)

    def _append(self, table: pa.Table) -> None:
        self._write(self._next, table)
        self._next += 1


class RolloutWriter(PartWriter):
    """Writes the shards of a rollout dataset, then its index and its manifest."""

    row_group = ROW_GROUP

    def problems_done(self) -> set[str]:
        """Problems whose rollouts are already on disk."""
        return {problem_id for (problem_id,) in self._done("problem_id")}

    def add(self, trajectories: list[Trajectory]) -> None:
        """Write one shard. All rollouts of a problem belong in one call."""
        self._append(to_table(trajectories))

    def replace_part(self, number: int, trajectories: list[Trajectory]) -> None:
        """Write shard `number`, over one of an earlier attempt if there is one."""
        self._write(number, to_table(trajectories))

    def finish(self, **manifest: Any) -> Manifest:
        """Index and digest the shards, and write the manifest from `manifest`'s other fields."""
        shards, indices = [], [index_of(to_table([]))]
        for part in self._parts():
            index = index_of(read_table(part, [*TAKEN, *LENGTHS.values()], remedy=REMEDY))
            indices.append(index)
            shards.append(FileRecord.of(part, index.num_rows))
        # The shards' parts have dictionaries of their own.
        whole = pa.concat_tables(indices).unify_dictionaries()
        index_file = write_index(self.folder, whole)
        result = Manifest(counts=count(whole.to_pandas()), index=index_file, shards=shards, **manifest)
        result.write(self.folder)
        return result
