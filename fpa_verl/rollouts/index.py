"""The index of a rollout dataset: one row a trajectory, with all that decides whether it trains and no tokens.

It lies beside the shards as `index.parquet`, in their order, so that a dataset opens without its tokens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fpa_verl.errors import DatasetError
from fpa_verl.reward.verdicts import MODEL_STATUSES
from fpa_verl.rollouts.manifest import FileRecord, require_whole
from fpa_verl.rollouts.parquet import read_table, write_table
from fpa_verl.rollouts.schema import (
    CUT_OFF,
    LATER_COLUMNS,
    SCHEMA,
    STOPPED_AT_TEXT,
    TRAIN,
    schema_difference,
    with_later_columns,
)

INDEX_FILE = "index.parquet"
# Columns of a shard that are taken over, and list columns whose lengths are.
TAKEN = ("problem_id", "group", "split", "status", "finish_reason", "mode", "trace_tokens")
LENGTHS = {"prompt_tokens": "prompt_ids", "response_tokens": "response_ids"}
INDEX_SCHEMA = pa.schema([*(SCHEMA.field(name) for name in TAKEN), *((name, pa.int32()) for name in LENGTHS)])


def index_of(shard: pa.Table) -> pa.Table:
    """The index's rows for those of a shard."""
    index = with_later_columns(shard).select(list(TAKEN))
    # Written out once each, however many trajectories have them.
    index = index.set_column(0, "problem_id", pc.dictionary_encode(index["problem_id"]))
    for name, tokens in LENGTHS.items():
        index = index.append_column(name, pc.list_value_length(shard[tokens]))
    return index


def write_index(folder: Path, index: pa.Table) -> FileRecord:
    """Write the index of a dataset."""
    write_table(folder / INDEX_FILE, index)
    return FileRecord.of(folder / INDEX_FILE, index.num_rows)


def read_index(folder: Path, record: FileRecord) -> pd.DataFrame:
    """The whole index, text columns as categories.

    Raises:
        DatasetError: it is missing or damaged.
    """
    path = require_whole(folder, record, checksum=True)
    table = read_table(path)
    if difference := schema_difference(table.schema, INDEX_SCHEMA):
        raise DatasetError(f"{path}: {difference}")
    table = with_later_columns(table, INDEX_SCHEMA)
    if len(table) != record.rows:
        raise DatasetError(f"{path} has {len(table)} rows, its manifest {record.rows}: restore it")
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            row = pc.index(column.is_null(), True).as_py()
            raise DatasetError(f"{path}, row {row}: column '{name}' is null: restore it")
    # What the file says about pandas is not asked.
    return table.to_pandas(strings_to_categorical=True, ignore_metadata=True)


def scored(index: pd.DataFrame) -> pd.Series:
    """Which trajectories have a verdict that is the model's own doing, of problems that are not held out."""
    return (index["split"] == TRAIN) & index["status"].isin(MODEL_STATUSES)


def group_numbers(index: pd.DataFrame) -> np.ndarray:
    """The number of each row's group, counted in order of first appearance."""
    problem, group = index["problem_id"].cat.codes.to_numpy(np.int64), index["group"].to_numpy(np.int64)
    return pd.factorize(problem * (group.max(initial=0) + 1) + group)[0]


def count(index: pd.DataFrame) -> dict[str, int]:
    """Trajectories by status, groups by outcome, tokens.

    A group is `mixed` when its trainable trajectories hold both a right and a wrong one; only
    those train. Groups that keep fewer than two trainable trajectories count as `unscored`.
    """
    train = index[index["split"] == TRAIN]
    groups = group_numbers(train)
    trainable = np.bincount(groups, scored(train))
    right = np.bincount(groups, train["status"] == "right")
    few = trainable < 2
    kinds = {
        "unscored": few,
        "all_right": ~few & (right == trainable),
        "all_wrong": ~few & (right == 0),
        "mixed": ~few & (right > 0) & (right < trainable),
    }
    statuses = index["status"].value_counts()
    counts = {
        "trajectories": len(index),
        "validation_trajectories": len(index) - len(train),
        "truncated": (index["finish_reason"] == CUT_OFF).sum(),
        # Of datasets that know such an end.
        **({"stopped_at_text": stopped} if (stopped := (index["finish_reason"] == STOPPED_AT_TEXT).sum()) else {}),
        "prompt_tokens": index["prompt_tokens"].sum(),
        "response_tokens": index["response_tokens"].sum(),
        # Of datasets with traces: their tokens, the responses that have one, and those that were cut off within it.
        **_count_traces(index),
        "groups": len(trainable),
        "trainable_trajectories": trainable[kinds["mixed"]].sum(),
        **{f"groups_{kind}": members.sum() for kind, members in kinds.items()},
        **{f"status_{status}": number for status, number in statuses.items() if number},
    }
    return {name: int(counts[name]) for name in sorted(counts)}


def cut_off_in_trace(responses: pd.DataFrame) -> pd.Series:
    """Of each response, whether it holds no answer, for it was cut off while the model was thinking.

    Args:
        responses: with `trace_tokens`, `response_tokens` and `finish_reason`.
    """
    is_trace = (responses["trace_tokens"] > 0) & (responses["trace_tokens"] == responses["response_tokens"])
    return is_trace & (responses["finish_reason"] == CUT_OFF)


def _count_traces(index: pd.DataFrame) -> dict[str, int]:
    traced = index["trace_tokens"] > 0
    is_other = index["mode"] != LATER_COLUMNS["mode"]
    found = {
        "trace_tokens": index["trace_tokens"].sum(),
        "with_trace": traced.sum(),
        "cut_off_in_trace": cut_off_in_trace(index).sum(),
    }
    modes = {f"mode_{mode}": number for mode, number in index["mode"].value_counts().items() if number}
    return {**(found if traced.any() else {}), **(modes if is_other.any() else {})}
