"""Files of rollouts as their owner names them: one, several, a pattern, or the folder of a run's dumps."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.files import sha256_of
from fpa_verl.rollouts.parquet import read_table
from fpa_verl.rollouts.problems import json_lines

STEPS = re.compile(r"(\d+)(?:-(\d+))?")
ENDINGS = (".jsonl", ".jsonl.gz")
# Sets of the hub come as that.
PARQUET = ".parquet"
# Rows that are objects at a time.
BATCH = 1_000


@dataclass(frozen=True)
class RecordFiles:
    """JSON Lines or parquet files, in order.

    Attributes:
        files: at least one.
        source: name of the problem set, for records that do not say.
        steps: of the run that dumped them, which are taken; None: all.
    """

    files: tuple[Path, ...]
    source: str
    steps: range | None = None

    @property
    def sha256(self) -> str:
        """Of the one file, or of all their digests."""
        digests = [sha256_of(file) for file in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    def records(self) -> Iterator[tuple[str, int | None, dict[str, Any]]]:
        """File and line, step and content of every record that is taken.

        Raises:
            DatasetError: a line that cannot be read, or no record of the steps that were chosen.
        """
        there: set[int] = set()
        for file in self.files:
            for where, record in _records_of(file):
                step = _step_of(record, file)
                if self.steps is None:
                    yield where, step, record
                elif step is None:
                    raise DatasetError(f"{where}: has no 'step', which --steps chooses by: leave --steps out")
                else:
                    there.add(step)
                    if step in self.steps:
                        yield where, step, record
        if there and self.steps is not None and there.isdisjoint(self.steps):
            chosen = "-".join(map(str, dict.fromkeys((self.steps[0], self.steps[-1]))))
            raise DatasetError(f"--steps {chosen}: the records are of the steps {min(there)} to {max(there)}")


def record_files(names: Sequence[Path], source: str | None = None, steps: str | None = None) -> RecordFiles:
    """The files behind names.

    Args:
        names: files, patterns such as `dumps/*.jsonl`, or folders, of which every JSON Lines file is taken, or
            where there is none every parquet file.
        source: name of the problem set; None takes that of the file, or of the folder where files are numbered.
        steps: `12` or `1-50`, of verl's dumps.

    Raises:
        ConfigError: `steps` is no range.
        DatasetError: nothing is there, or a file twice, packed and unpacked.
    """
    # One that is named twice, by two paths, is one.
    files = tuple({file.resolve(): file for name in names for file in _files_of(name)}.values())
    if twice := next((file for file in files if file.with_name(f"{file.name}.gz") in files), None):
        raise DatasetError(f"{twice} and {twice.name}.gz beside it are the same records: delete one, or name the files")
    return RecordFiles(files, source or _name_of(files), _range_of(steps))


def _files_of(name: Path) -> list[Path]:
    if name.is_file():
        return [name]
    if name.is_dir():
        there = list(name.iterdir())
        # A folder of both is one of JSON Lines with something beside them.
        found = [file for file in there if file.name.endswith(ENDINGS)] or [f for f in there if f.suffix == PARQUET]
        if not found:
            raise DatasetError(f"no records in the folder {name}: no file ends in {', '.join(ENDINGS)} or {PARQUET}")
    else:
        found = [Path(file) for file in glob.glob(str(name), recursive=True) if Path(file).is_file()]
        if not found:
            raise DatasetError(f"no file at {name}")
    return sorted(found, key=_in_order)


def _in_order(file: Path) -> tuple[str, list[tuple[int, str]]]:
    """2.jsonl before 10.jsonl."""
    parts = re.findall(r"\d+|\D+", file.name)
    return str(file.parent), [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _name_of(files: Sequence[Path]) -> str:
    first = files[0].absolute()
    own = first.name.split(".")[0]
    return own if len(files) == 1 and not own.isdigit() else first.parent.name


def _range_of(steps: str | None) -> range | None:
    if steps is None:
        return None
    found = STEPS.fullmatch(steps.strip())
    if found is None or int(found[2] or found[1]) < int(found[1]):
        raise ConfigError(f"--steps {steps}: give one step, as 12, or a range of them, as 1-50")
    return range(int(found[1]), int(found[2] or found[1]) + 1)


def _records_of(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each record stands, and the record."""
    if file.suffix == PARQUET:
        # As objects, a set with long judgements takes several times what the table does.
        batches = read_table(file).to_batches(max_chunksize=BATCH)
        rows = chain.from_iterable(batch.to_pylist() for batch in batches)
        yield from ((f"{file}, row {i}", row) for i, row in enumerate(rows))
    else:
        yield from ((f"{file}, line {number}", record) for number, record in json_lines(file))


def _step_of(record: dict[str, Any], file: Path) -> int | None:
    """That of the record, or of the file that verl names by it."""
    if isinstance(step := record.get("step"), int) and not isinstance(step, bool):
        return step
    own = file.name.split(".")[0]
    return int(own) if own.isdigit() else None
