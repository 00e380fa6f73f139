"""Parquet with checksums in its pages, and errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fpa_verl.errors import DatasetError
from fpa_verl.files import atomic_path


@contextmanager
def reading(path: Path, remedy: str = "restore it") -> Iterator[None]:
    """Turn what pyarrow raises about a file that it cannot read into a `DatasetError`."""
    try:
        yield
    # UnicodeDecodeError: a name in the footer that is no text.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise DatasetError(f"{path} is damaged, or not a parquet file ({reason}): {remedy}") from error


def write_table(path: Path, table: pa.Table, **options: Any) -> None:
    """Write a table atomically; every page gets a checksum."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True, **options)


def open_file(path: Path) -> pq.ParquetFile:
    """Open a file for reading piece by piece; page checksums are compared where the file has them."""
    # A mapped file that is cut off while it is read would end the process; and buffering ahead keeps all of it.
    return pq.ParquetFile(path, memory_map=False, pre_buffer=False, page_checksum_verification=True)


def read_table(path: Path, columns: Sequence[str] | None = None, *, remedy: str = "restore it") -> pa.Table:
    """A whole file, or columns of it, valid throughout (text is UTF-8, lists lie within their values).

    Raises:
        DatasetError: it is no parquet file, or damaged where pyarrow or a page's checksum can tell.
    """
    with reading(path, remedy):
        table = open_file(path).read(columns=None if columns is None else list(columns))
        table.validate(full=True)
    return table
