"""Columns of a rollout shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

# How a response ended: in an end-of-sequence token, at a text of the recipe's (`prompt.stop`), or cut off, not at all.
ENDED, STOPPED_AT_TEXT, CUT_OFF = FINISH_REASONS = ("stop", "stop_text", "length")

TRAIN, VALIDATION = "train", "validation"
# Ends the data source of held-out problems.
VALIDATION_SUFFIX = "/validation"
# How a problem is put: as the template has it, or with a trace that the prompt has closed already; and what ends the
# data source of problems that are put so.
THINKING, EMPTY = MODES = ("thinking", "empty")
EMPTY_SUFFIX = "/empty"

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
        # How the problem was put (one of MODES), and how many tokens at the beginning of the response are its trace.
        ("mode", pa.dictionary(pa.int8(), pa.string())),
        ("trace_tokens", pa.int32()),
        # Of solution steps whose value is known: places of their last tokens in prompt and response together, in order,
        # and their values, from -1 to 1.
        ("step_ends", pa.list_(pa.int32())),
        ("step_values", pa.list_(pa.float32())),
    ]
)
# Columns that datasets of earlier versions do not have, and what they would hold there.
LATER_COLUMNS: dict[str, Any] = {"mode": THINKING, "trace_tokens": 0, "step_ends": (), "step_values": ()}


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
    mode: str = LATER_COLUMNS["mode"]
    trace_tokens: int = LATER_COLUMNS["trace_tokens"]
    step_ends: Sequence[int] = LATER_COLUMNS["step_ends"]
    step_values: Sequence[float] = LATER_COLUMNS["step_values"]


def is_validation(data_source: str) -> bool:
    """Whether a problem set is one of held-out training problems, to choose by and not to judge by."""
    return data_source.removesuffix(EMPTY_SUFFIX).endswith(VALIDATION_SUFFIX)


def plain_source(data_source: str) -> str:
    """The problem set itself, whether its problems were held out, and in whatever mode they are put."""
    return data_source.removesuffix(EMPTY_SUFFIX).removesuffix(VALIDATION_SUFFIX)


def mode_of(data_source: str) -> str:
    """The mode in which problems of a set are put."""
    return EMPTY if data_source.endswith(EMPTY_SUFFIX) else THINKING


def to_table(trajectories: list[Trajectory]) -> pa.Table:
    """Trajectories as one arrow table of `SCHEMA`."""
    columns: dict[str, list[Any]] = {
        f.name: [getattr(trajectory, f.name) for trajectory in trajectories] for f in fields(Trajectory)
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def with_later_columns(table: pa.Table, expected: pa.Schema = SCHEMA) -> pa.Table:
    """The table with the columns of `expected` that came after it was written, in their order."""
    for field in expected:
        if field.name not in table.column_names and field.name in LATER_COLUMNS:
            values = pa.array([LATER_COLUMNS[field.name]] * len(table))
            table = table.append_column(field.name, values.cast(field.type))
    return table.select([name for name in expected.names if name in table.column_names])


def schema_difference(found: pa.Schema, expected: pa.Schema = SCHEMA) -> str | None:
    """What keeps `found` from being `expected`, in words; None where nothing does.

    Dictionary-encoded columns may come back plain: parquet readers differ in that. Further columns do no harm, nor does
    it that `LATER_COLUMNS` are not there yet.
    """
    for field in expected:
        times = found.names.count(field.name)
        if not times and field.name in LATER_COLUMNS:
            continue
        if times != 1:
            return f"column '{field.name}' is {'there twice' if times else 'missing'}"
        wanted = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        actual = found.field(field.name).type
        actual = actual.value_type if pa.types.is_dictionary(actual) else actual
        same_list = pa.types.is_list(wanted) and pa.types.is_list(actual) and wanted.value_type == actual.value_type
        if actual != wanted and not same_list:
            return f"column '{field.name}' is {actual}, not {wanted}"
    return None
