"""The shards of a rollout dataset, read a row group at a time: memory does not grow with the dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.manifest import Manifest, require_whole
from fpa_verl.rollouts.parquet import open_file, reading
from fpa_verl.rollouts.row_checks import Fault, IndexColumns, faults, index_faults
from fpa_verl.rollouts.schema import SCHEMA, schema_difference, with_later_columns

# Rows that are read and kept together: reading one at random costs the decoding of so many.
ROW_GROUP = 64
# 256 groups of 64 rows of 1,000 tokens, id and log-prob, are 131 MB; small datasets stay whole.
GROUPS_KEPT = 256
FILES_KEPT = 32
# Rows that are checked together when all are read in order: 8 MB of 1,000 tokens, id and log-prob.
ROWS_CHECKED = 1024


@dataclass(frozen=True)
class Piece:
    """Rows of one shard that lie together.

    Attributes:
        path: the shard's.
        in_shard: the place of the first row in it.
        in_dataset: the place of the first row in the dataset.
    """

    path: Path
    in_shard: int
    in_dataset: int
    table: pa.Table

    def where(self, fault: Fault) -> str:
        """File, row and what is wrong."""
        return f"{self.path}, row {self.in_shard + fault.row}: {fault}"


class Shards:
    """Rows by their place in the dataset; what is read is checked before it is handed out.

    A shard's checksum, schema and size are compared when it is first read; every row that is read is
    checked for sense and against the index.

    Args:
        folder: the dataset's.
        manifest: the dataset's.
        index: the dataset's.

    Raises:
        DatasetError: a shard is missing or has another size, or, on reading, is damaged.
    """

    def __init__(self, folder: Path, manifest: Manifest, index: pd.DataFrame) -> None:
        if not manifest.shards:
            raise DatasetError(f"{folder} is empty: its manifest names no shard. Collect or import again")
        self._folder, self._records, self._index = folder, manifest.shards, IndexColumns(index)
        self._vocabulary_size = manifest.vocabulary_size
        for record in self._records:
            require_whole(folder, record)
        self._ends = np.cumsum([record.rows for record in self._records])
        self._checked: set[int] = set()
        self._file = lru_cache(FILES_KEPT)(self._open)
        self._rows = lru_cache(GROUPS_KEPT)(self._read)

    def __getitem__(self, row: int) -> dict[str, Any]:
        """One row as `SCHEMA` has it."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        place = row - self._start(number)
        group_ends = self._file(number)[1]
        group = int(np.searchsorted(group_ends, place, side="right"))
        within = place - (int(group_ends[group - 1]) if group else 0)
        return self._rows(number, group).slice(within, 1).to_pylist()[0]

    def _start(self, number: int) -> int:
        """The place of a shard's first row in the dataset."""
        return int(self._ends[number - 1]) if number else 0

    def _open(self, number: int) -> tuple[pq.ParquetFile, np.ndarray]:
        """A shard, and where its row groups end."""
        record = self._records[number]
        path = require_whole(self._folder, record, checksum=number not in self._checked)
        with reading(path):
            file = open_file(path)
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        if difference := schema_difference(file.schema_arrow):
            raise DatasetError(f"{path}: {difference}")
        if sum(sizes) != record.rows:
            raise DatasetError(f"{path} has {sum(sizes)} rows, its manifest {record.rows}: restore it")
        self._checked.add(number)
        return file, np.cumsum(sizes)

    def _read(self, number: int, group: int) -> pa.Table:
        file, group_ends = self._file(number)
        path = self._folder / self._records[number].file
        table = _read_groups(path, file, [group])
        in_shard = int(group_ends[group]) - len(table)
        piece = Piece(path, in_shard, self._start(number) + in_shard, table)
        self._refuse_faults(piece)
        return table

    def _refuse_faults(self, piece: Piece) -> None:
        for fault in self.faults(piece):
            raise DatasetError(f"{piece.where(fault)}; `fpa-verl data check {self._folder}` lists all that is wrong")

    def faults(self, piece: Piece) -> Iterator[Fault]:
        """What is wrong with the rows by themselves and against the index."""
        expected = self._index[piece.in_dataset : piece.in_dataset + len(piece.table)]
        return chain(faults(piece.table, self._vocabulary_size), index_faults(piece.table, expected))

    def pieces(self, number: int) -> Iterator[Piece]:
        """All rows of a shard in order, its checksum compared anew.

        Raises:
            DatasetError: the file is damaged.
        """
        self._checked.discard(number)
        file, group_ends = self._open(number)
        path, place = self._folder / self._records[number].file, 0
        # Row groups by the batch in which their last row lies.
        batch_of = (group_ends - 1) // ROWS_CHECKED
        for batch in np.unique(batch_of):
            table = _read_groups(path, file, np.flatnonzero(batch_of == batch).tolist())
            yield Piece(path, place, self._start(number) + place, table)
            place += len(table)

    def column(self, name: str) -> pa.Array:
        """A column of all rows in their order, read by itself and unchecked.

        Raises:
            DatasetError: a file is damaged.
        """
        parts = []
        for number in range(len(self._records)):
            file, _ = self._file(number)
            # Of a dataset that does not have it yet, the rows are those of a column that all have.
            names = {name, "sample"} & set(file.schema_arrow.names)
            with reading(self._folder / self._records[number].file):
                parts.append(with_later_columns(file.read(columns=sorted(names)))[name])
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks]).combine_chunks()

    def verify(self) -> None:
        """Read every shard and compare it with its checksum, the schema and the index.

        Raises:
            DatasetError: naming file, row and column.
        """
        for number in range(len(self._records)):
            for piece in self.pieces(number):
                self._refuse_faults(piece)

    @property
    def bytes(self) -> int:
        return sum(record.bytes for record in self._records)


def _read_groups(path: Path, file: pq.ParquetFile, groups: list[int]) -> pa.Table:
    """Row groups with the columns of `SCHEMA`, valid throughout."""
    with reading(path):
        table = with_later_columns(file.read_row_groups(groups, columns=SCHEMA.names)).combine_chunks()
        table.validate(full=True)
    return table
