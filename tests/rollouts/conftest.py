from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fpa_verl.files import sha256_of
from fpa_verl.rollouts import RolloutWriter, Trajectory
from fpa_verl.rollouts.sealed_json import SEAL, write_sealed_json

PLAN = {"fingerprints": {"model": "m"}, "sampling": {"temperature": 0.7}}


def trajectory(problem_id="p0", sample=0, status="right", **changes) -> Trajectory:
    values = {
        "problem_id": problem_id,
        "group": 0,
        "sample": sample,
        "split": "train",
        "data_source": "toy",
        "ground_truth": "3",
        "prompt_ids": [5, 6],
        "response_ids": [7, 8, 1],
        "behaviour_log_probs": [-0.1, -0.2, -0.3],
        "score": float(status == "right"),
        "status": status,
        "finish_reason": "stop",
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": -1,
        "max_response_tokens": 64,
    }
    return Trajectory(**{**values, **changes})


def finish(writer: RolloutWriter):
    return writer.finish(
        fingerprints=writer.plan["fingerprints"],
        sampling=writer.plan["sampling"],
        validation={},
        cost={"device_seconds": {"generation": 10.0, "other": 2.0}, "devices": 2, "device": "d"},
        origin={},
        versions={},
    )


@pytest.fixture
def dataset(tmp_path):
    """Two mixed groups, one all right, one all wrong, one with scorer failures, one held out."""
    folder = tmp_path / "rollouts"
    writer = RolloutWriter(folder, PLAN)
    writer.add([trajectory("mixed", i, s) for i, s in enumerate(["right", "wrong", "no_answer", "timeout"])])
    writer.add(
        [trajectory("right", i, "right") for i in range(2)] + [trajectory("wrong", i, "wrong") for i in range(2)]
    )
    writer.add(
        [trajectory("unscored", 0, "right"), trajectory("unscored", 1, "error")]
        + [trajectory("cut", 0, "right"), trajectory("cut", 1, "wrong", finish_reason="length")]
        + [trajectory("held_out", i, s, split="validation") for i, s in enumerate(["right", "wrong"])]
    )
    finish(writer)
    return folder


def change_manifest(folder, change) -> None:
    """Edit a manifest in place by `change(manifest)`, and give it a checksum that holds."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[SEAL]
    change(manifest)
    write_sealed_json(folder / "manifest.json", manifest)


def rewrite(folder, change, name="part-00000.parquet") -> None:
    """Change a parquet file by `change(table)`, and make the manifest agree with it."""
    table = change(pq.read_table(folder / name))
    pq.write_table(table, folder / name)

    def record(manifest):
        for found in (manifest["index"], *manifest["shards"]):
            if found["file"] == name:
                found |= {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}

    change_manifest(folder, record)


def with_values(table, column, values: dict):
    """The table with other values in some rows of a column."""
    found = table[column].to_pylist()
    for row, value in values.items():
        found[row] = value
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(place), pa.array(found, table.schema.field(place).type))
