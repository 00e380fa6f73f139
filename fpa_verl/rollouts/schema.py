"""Columns of a rollout shard."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

# How a response ended: in an end-of-sequence token, at a text of the recipe's (`prompt.stop`), or cut off, not at all.
ENDED, STOPPED_AT_TEXT, CUT_OFF = FINISH_REASONS = ("stop", "stop_text", "length")

TRAIN, VALIDATION = "train", "validation"
# Ends the data source of held-out problems.
VALIDATION_SUFFIX = "/validation"

SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        # Rollouts of one problem collected together; with problem_id it names a group.
        ("group", pa.int32()),
        # Position within the group, from 0.
        ("sample", pa.int32()),
        ("split", pa.dictionary(pa.int8(), pa.string())),
        ("data_source", pa.dictionary(pa.int16(), pa.string())),
        ("ground_truth", pa.string()),
        # Token ids exactly as the rollout engine saw and produced them.
        ("prompt_ids", pa.list_(pa.int32())),
        ("response_ids", pa.list_(pa.int32())),
        # log-prob of each response token under the policy that sampled it; null for imported text.
        ("behaviour_log_probs", pa.list_(pa.float32())),
        ("score", pa.float32()),
        ("status", pa.dictionary(pa.int8(), pa.string())),
        # One of FINISH_REASONS.
        ("finish_reason", pa.dictionary(pa.int8(), pa.string())),
        ("temperature", pa.float32()),
        ("top_p", pa.float32()),
        # -1: no limit.
        ("top_k", pa.int32()),
        ("max_response_tokens", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Trajectory:
    """One row of `SCHEMA`."""

    problem_id: str
    group: int
    sample: int
    split: str
    data_source: str
    ground_truth: str
    prompt_ids: list[int]
    response_ids: list[int]
    behaviour_log_probs: list[float] | None
    score: float
    status: str
    finish_reason: str
    temperature: float
    top_p: float
    top_k: int
    max_response_tokens: int


def is_validation(data_source: str) -> bool:
    """Whether a problem set is one of held-out training problems, to choose by and not to judge by."""
    return data_source.endswith(VALIDATION_SUFFIX)


def to_table(trajectories: list[Trajectory]) -> pa.Table:
    """Trajectories as one arrow table of `SCHEMA`."""
    columns: dict[str, list[Any]] = {
        f.name: [getattr(trajectory, f.name) for trajectory in trajectories] for f in fields(Trajectory)
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def schema_difference(found: pa.Schema, expected: pa.Schema = SCHEMA) -> str | None:
    """What keeps `found` from being `expected`, in words; None where nothing does.

    Dictionary-encoded columns may come back plain: parquet readers differ in that. Further columns do no harm.
    """
    for field in expected:
        times = found.names.count(field.name)
        if times != 1:
            return f"column '{field.name}' is {'there twice' if times else 'missing'}"
        wanted = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        actual = found.field(field.name).type
        actual = actual.value_type if pa.types.is_dictionary(actual) else actual
        same_list = pa.types.is_list(wanted) and pa.types.is_list(actual) and wanted.value_type == actual.value_type
        if actual != wanted and not same_list:
            return f"column '{field.name}' is {actual}, not {wanted}"
    return None
