"""Writes a rollout dataset shard by shard; an interrupted one goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def _read_plan(file: Path) -> dict[str, Any]:
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file} is damaged ({error}): name another folder, or delete this one") from error
    if not isinstance(plan, dict):
        raise DatasetError(f"{file} is damaged (no JSON object): name another folder, or delete this one")
    return plan


class RolloutWriter:
    """Writes `part-NNNNN.parquet` files under `folder`, then the index and the manifest.

    Args:
        folder: created if absent.
        plan: what is being made (fingerprints, sampling). Kept beside the shards: going on with
            another plan would mix two datasets and is refused.
    """

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.folder = folder
        self.plan = plan
        folder.mkdir(parents=True, exist_ok=True)
        plan_file = folder / PLAN_FILE
        if plan_file.exists():
            self._refuse_another_plan(_read_plan(plan_file))
        else:
            write_json(plan_file, plan)
        self._next = 1 + max((int(part.stem.split("-")[1]) for part in self._parts()), default=-1)

    def _refuse_another_plan(self, before: dict[str, Any]) -> None:
        now = json.loads(json.dumps(self.plan))
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if changed:
            different = "; ".join(_differ(key, before.get(key), now.get(key)) for key in changed)
            raise MismatchError(
                f"{self.folder} was begun with another {different}: "
                "name another folder, or delete this one to start over"
            )

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def problems_done(self) -> set[str]:
        """Problems whose rollouts are already on disk."""
        return {
            problem_id
            for part in self._parts()
            for problem_id in read_table(part, ["problem_id"], remedy=REMEDY)["problem_id"].to_pylist()
        }

    def add(self, trajectories: list[Trajectory]) -> None:
        """Write one shard. All rollouts of a problem belong in one call."""
        self.replace_part(self._next, trajectories)
        self._next += 1

    def replace_part(self, number: int, trajectories: list[Trajectory]) -> None:
        """Write shard `number`, over one of an earlier attempt if there is one."""
        write_table(self.folder / f"part-{number:05d}.parquet", to_table(trajectories), row_group_size=ROW_GROUP)

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


def _differ(name: str, before: Any, now: Any) -> str:
    """What was changed under a name of the plan: of several values those that differ."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return f"{name} ({before}, now {now})"
    return ", ".join(
        f"{key} ({before.get(key)}, now {now.get(key)})"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    )
