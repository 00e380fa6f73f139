"""The shards of a rollout dataset, read a row group at a time: memory does not grow with the dataset."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.index import LENGTHS
from fpa_verl.rollouts.manifest import FileRecord, require_whole
from fpa_verl.rollouts.schema import schema_difference

# Rows that are read and kept together: reading one at random costs the decoding of so many.
ROW_GROUP = 64
# 256 groups of 64 rows of 1,000 tokens, id and log-prob, are 131 MB; small datasets stay whole.
GROUPS_KEPT = 256
FILES_KEPT = 32


class Shards:
    """Rows by their place in the dataset. A shard's checksum and schema are checked when it is first read.

    Args:
        folder: of the dataset.
        records: the shards in order, from the manifest.

    Raises:
        DatasetError: a shard is missing or has another size, or, on reading, is damaged.
    """

    def __init__(self, folder: Path, records: list[FileRecord]) -> None:
        if not records:
            raise DatasetError(f"{folder} is empty: its manifest names no shard. Collect or import again")
        self._folder, self._records = folder, records
        for record in records:
            require_whole(folder, record)
        self._ends = np.cumsum([record.rows for record in records])
        self._checked: set[int] = set()
        self._file = lru_cache(FILES_KEPT)(self._open)
        self._rows = lru_cache(GROUPS_KEPT)(self._read)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """One row as `SCHEMA` has it."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        place = row - (int(self._ends[number - 1]) if number else 0)
        group_ends = self._file(number)[1]
        group = int(np.searchsorted(group_ends, place, side="right"))
        within = place - (int(group_ends[group - 1]) if group else 0)
        return self._rows(number, group).slice(within, 1).to_pylist()[0]

    def _open(self, number: int) -> tuple[pq.ParquetFile, np.ndarray]:
        """A shard, and where its row groups end."""
        path = require_whole(self._folder, self._records[number], checksum=number not in self._checked)
        self._checked.add(number)
        file = pq.ParquetFile(path, memory_map=True)
        if difference := schema_difference(file.schema_arrow):
            raise DatasetError(f"{path}: {difference}")
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        return file, np.cumsum(sizes)

    def _read(self, number: int, group: int) -> pa.Table:
        return self._file(number)[0].read_row_group(group).combine_chunks()

    def verify(self, index: pd.DataFrame) -> None:
        """Read every shard and compare it with its checksum, the schema and the index.

        Raises:
            DatasetError: naming file, row and column.
        """
        start = 0
        for number, record in enumerate(self._records):
            self._checked.discard(number)
            file, _ = self._open(number)
            _check_lengths(self._folder / record.file, file, index.iloc[start : start + record.rows])
            start += record.rows

    @property
    def bytes(self) -> int:
        return sum(record.bytes for record in self._records)


def _check_lengths(path: Path, file: pq.ParquetFile, index: pd.DataFrame) -> None:
    """Every prompt and response has tokens, as many as the index says, and a log-prob for each token or for none."""
    columns = [*LENGTHS.values(), "behaviour_log_probs"]
    table = file.read(columns=columns)
    if len(table) != len(index):
        raise DatasetError(f"{path} has {len(table)} rows, its manifest {len(index)}: restore it")
    lengths = {name: pc.list_value_length(table[name]).to_numpy() for name in columns}
    for name, column in LENGTHS.items():
        for row in np.flatnonzero((lengths[column] != index[name].to_numpy()) | ~(lengths[column] > 0)):
            raise DatasetError(
                f"{path}, row {row}: column '{column}' has {lengths[column][row]} tokens, the index says "
                f"{index[name].iloc[row]}"
            )
    response, log_probs = lengths["response_ids"], lengths["behaviour_log_probs"]
    for row in np.flatnonzero(~np.isnan(log_probs.astype(float)) & (log_probs != response)):
        raise DatasetError(
            f"{path}, row {row}: column 'behaviour_log_probs' has {log_probs[row]:.0f} values for {response[row]} "
            "response tokens"
        )
