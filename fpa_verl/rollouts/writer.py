"""Writes a rollout dataset shard by shard; an interrupted one goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fpa_verl.errors import MismatchError
from fpa_verl.files import atomic_path, write_json
from fpa_verl.rollouts.index import LENGTHS, TAKEN, count, index_of, write_index
from fpa_verl.rollouts.manifest import FileRecord, Manifest
from fpa_verl.rollouts.schema import Trajectory, to_table
from fpa_verl.rollouts.shards import ROW_GROUP

PLAN_FILE = "plan.json"


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
            self._refuse_another_plan(json.loads(plan_file.read_text(encoding="utf-8")))
        else:
            write_json(plan_file, plan)
        self._next = 1 + max((int(part.stem.split("-")[1]) for part in self._parts()), default=-1)

    def _refuse_another_plan(self, before: dict[str, Any]) -> None:
        now = json.loads(json.dumps(self.plan))
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if changed:
            raise MismatchError(
                f"{self.folder} was begun with another {', '.join(changed)}: name another folder, or delete "
                "this one to start over"
            )

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def problems_done(self) -> set[str]:
        """Problems whose rollouts are already on disk."""
        return {
            problem_id
            for part in self._parts()
            for problem_id in pq.read_table(part, columns=["problem_id"])["problem_id"].to_pylist()
        }

    def add(self, trajectories: list[Trajectory]) -> None:
        """Write one shard. All rollouts of a problem belong in one call."""
        self.replace_part(self._next, trajectories)
        self._next += 1

    def replace_part(self, number: int, trajectories: list[Trajectory]) -> None:
        """Write shard `number`, over one of an earlier attempt if there is one."""
        with atomic_path(self.folder / f"part-{number:05d}.parquet") as temporary:
            pq.write_table(to_table(trajectories), temporary, row_group_size=ROW_GROUP)

    def finish(self, **manifest: Any) -> Manifest:
        """Index and digest the shards, and write the manifest from `manifest`'s other fields."""
        shards, indices = [], [index_of(to_table([]))]
        for part in self._parts():
            index = index_of(pq.read_table(part, columns=[*TAKEN, *LENGTHS.values()]))
            indices.append(index)
            shards.append(FileRecord.of(part, index.num_rows))
        # The shards' parts have dictionaries of their own.
        whole = pa.concat_tables(indices).unify_dictionaries()
        index_file = write_index(self.folder, whole)
        result = Manifest(counts=count(whole.to_pandas()), index=index_file, shards=shards, **manifest)
        result.write(self.folder)
        return result
