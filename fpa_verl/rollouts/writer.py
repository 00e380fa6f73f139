"""Writes a rollout dataset shard by shard; an interrupted one goes on where it stopped."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fpa_verl.errors import MismatchError
from fpa_verl.files import atomic_path, sha256_of, write_json
from fpa_verl.rollouts.manifest import Manifest, Shard
from fpa_verl.rollouts.schema import MODEL_STATUSES, TRAIN, Trajectory, to_table

PLAN_FILE = "plan.json"


def count_rows(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Trajectories by status, groups by outcome, tokens.

    A group is `mixed` when its trainable trajectories hold both a right and a wrong one; only
    those train. Groups that keep fewer than two trainable trajectories count as `unscored`.
    """
    counts: Counter[str] = Counter()
    groups: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for row in rows:
        counts["trajectories"] += 1
        counts[f"status_{row['status']}"] += 1
        counts["truncated"] += row["finish_reason"] == "length"
        counts["prompt_tokens"] += row["prompt_tokens"]
        counts["response_tokens"] += row["response_tokens"]
        if row["split"] != TRAIN:
            counts["validation_trajectories"] += 1
            continue
        outcomes = groups[row["problem_id"], row["group"]]
        if row["status"] in MODEL_STATUSES:
            outcomes.append(row["status"] == "right")
    for outcomes in groups.values():
        counts["groups"] += 1
        kind = (
            "unscored"
            if len(outcomes) < 2
            else "mixed"
            if len(set(outcomes)) == 2
            else "all_right"
            if outcomes[0]
            else "all_wrong"
        )
        counts[f"groups_{kind}"] += 1
        counts["trainable_trajectories"] += len(outcomes) if kind == "mixed" else 0
    for kind in ("mixed", "all_right", "all_wrong", "unscored"):
        counts.setdefault(f"groups_{kind}", 0)
    counts.setdefault("trainable_trajectories", 0)
    return dict(sorted(counts.items()))


class RolloutWriter:
    """Writes `part-NNNNN.parquet` files under `folder`, then the manifest.

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
        self._next = len(self._parts())

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
            pq.write_table(to_table(trajectories), temporary)

    def finish(self, **manifest: Any) -> Manifest:
        """Count the rows, digest the shards and write the manifest from `manifest`'s other fields."""
        rows: list[dict[str, Any]] = []
        shards = []
        for part in self._parts():
            table = pq.read_table(part)
            shards.append(Shard(part.name, table.num_rows, sha256_of(part)))
            light = table.select(["problem_id", "group", "split", "status", "finish_reason"]).to_pylist()
            lengths = ([len(ids) for ids in table[column].to_pylist()] for column in ("prompt_ids", "response_ids"))
            rows += [
                {**row, "prompt_tokens": prompt, "response_tokens": response}
                for row, prompt, response in zip(light, *lengths, strict=True)
            ]
        result = Manifest(counts=count_rows(rows), shards=shards, **manifest)
        result.write(self.folder)
        return result
