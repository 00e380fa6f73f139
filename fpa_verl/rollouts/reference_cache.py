"""The reference cache: what the base model said about every stored response token, computed once.

A cache is a folder `reference/SOURCE` in the rollout dataset:

    plan.json            the key: what the cache is of, and how it was made
    part-*.safetensors   rows of the dataset, their lengths and checksums, and for each response token the arrays
    cache.json           written last: the key again, sizes, cost, and its own checksum

Arrays of a source, by response token:

    chosen   label (float32)
    topk     label and tail (float32), tokens (K x int32), log_probs (K x float16), samples (M x int32),
             sample_log_probs (M x float16)
    hidden   hidden (d x the compute dtype)

`label` is log pi_ref of the response token; `tail` the log of the mass outside the K tokens, of which the M
samples are.
Parts are memory-mapped: reading takes memory for what is read, whatever the size of the cache.
"""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fpa_verl.commands import CACHING, Command
from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.files import atomic_path
from fpa_verl.rollouts.sealed_json import read_sealed_json, write_sealed_json

FOLDER = "reference"
PLAN_FILE = "plan.json"
CACHE_FILE = "cache.json"
INDEX = ("rows", "lengths", "checksums")
SOURCES = ("hidden", "topk", "chosen")
COMMAND = str(Command().for_recipe(CACHING))
PART_NAME = re.compile(r"part-\d{6,12}-\d{3,6}\.safetensors", re.ASCII)


@dataclass(frozen=True)
class CacheKey:
    """What a cache depends on: with any of it changed, its numbers would be others.

    Attributes:
        model, tokenizer, template: fingerprints of the reference.
        dataset: fingerprint of the rollout dataset's shards.
        scoring_temperature: what logits are divided by.
        source: one of `SOURCES`.
        k, samples: tokens kept a position, and samples of the others, for "topk"; else 0.
        dtype: that of the forward pass which made it.
    """

    model: str
    tokenizer: str
    template: str
    dataset: str
    scoring_temperature: float
    source: str
    k: int
    samples: int
    dtype: str


def cache_folder(dataset: Path, source: str) -> Path:
    """Where the cache of a dataset lies."""
    return dataset / FOLDER / source


def part_name(batch: int, rank: int) -> str:
    """The file that data-parallel worker `rank` writes for batch number `batch`."""
    return f"part-{batch:06d}-{rank:03d}.safetensors"


def arrays_of(
    source: str, k: int, samples: int, hidden: int, dtype: torch.dtype
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and dtype of each array of a source, of one response token.

    `source`, `k` and `samples` are as in `CacheKey`; `hidden` is the size of a last hidden state, `dtype` theirs.
    """
    arrays: dict[str, dict[str, tuple[tuple[int, ...], torch.dtype]]] = {
        "hidden": {"hidden": ((hidden,), dtype)},
        "chosen": {"label": ((), torch.float32)},
        "topk": {
            "label": ((), torch.float32),
            "tokens": ((k,), torch.int32),
            "log_probs": ((k,), torch.float16),
            "tail": ((), torch.float32),
            "samples": ((samples,), torch.int32),
            "sample_log_probs": ((samples,), torch.float16),
        },
    }
    return arrays[source]


def begin(folder: Path, key: CacheKey, *, batch: int, workers: int) -> None:
    """Start a cache, or go on with one of the same key that is cut into parts in the same way.

    Raises:
        MismatchError: the folder holds parts of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / PLAN_FILE
    layout = {"batch": batch, "workers": workers}
    if not plan.exists():
        write_sealed_json(plan, {"key": asdict(key), **layout})
        return
    found, _ = read_sealed_json(plan, f"delete {folder} and repeat `{COMMAND}`")
    _refuse_other(folder, found.get("key", {}), key)
    if any(found[name] != value for name, value in layout.items()):
        raise MismatchError(
            f"{folder} was begun with batches of {found['batch']} on {found['workers']} workers: go on with "
            f"data.train_batch_size={found['batch']} and as many workers, or delete it to start over"
        )


def is_readable(part: Path) -> bool:
    """Whether a part is there and whole, as far as its header and size tell."""
    try:
        with safe_open(part, framework="numpy"):
            return True
    except (OSError, SafetensorError):
        return False


def _refuse_other(folder: Path, found: dict[str, Any], wanted: CacheKey, making: str = COMMAND) -> None:
    expected = asdict(wanted)
    differ = [name for name in expected if found.get(name) != expected[name]]
    if differ:
        what = ", ".join(f"{name} {found.get(name)}, now {expected[name]}" for name in differ)
        raise MismatchError(
            f"the reference cache {folder} was made for other settings ({what}): delete it and make it anew with "
            f"`{making}`, or set back what changed"
        )


def write_part(file: Path, rows: list[int], lengths: list[int], arrays: dict[str, torch.Tensor]) -> None:
    """Write one part, whole or not at all; `arrays` hold the response tokens of `rows`, one after another."""
    tokens = sum(lengths)
    for name, array in arrays.items():
        if len(array) != tokens:
            raise ValueError(f"{name} has {len(array)} tokens for rows of {tokens}")
    stored = {name: array.contiguous().cpu() for name, array in arrays.items()}
    starts = np.cumsum(lengths) - lengths
    checksums = [
        _checksum(row, {name: array[start : start + length] for name, array in stored.items()})
        for row, start, length in zip(rows, starts.tolist(), lengths, strict=True)
    ]
    index = {"rows": rows, "lengths": lengths, "checksums": checksums}
    with atomic_path(file) as temporary:
        save_file({**{name: torch.tensor(values) for name, values in index.items()}, **stored}, temporary)


def _checksum(row: int, arrays: dict[str, torch.Tensor]) -> int:
    """CRC-32 over the number of a row, and name, kind, shape and bytes of its arrays, in order of name."""
    value = zlib.crc32(str(row).encode())
    for name in sorted(arrays):
        array = arrays[name].contiguous()
        value = zlib.crc32(f"{name} {array.dtype} {tuple(array.shape)}".encode(), value)
        # numpy has no bfloat16: the bytes are all that counts.
        value = zlib.crc32(array.view(torch.uint8).numpy().data, value)
    return value


def finish(folder: Path, key: CacheKey, cost: dict[str, Any], *, rows: Iterable[int]) -> dict[str, Any]:
    """Write cache.json from the parts that are there; returns its content.

    Raises:
        DatasetError: one of `rows` is in no part.
    """
    parts = sorted(folder.glob("part-*.safetensors"))
    covered: set[int] = set()
    tokens = 0
    for part in parts:
        of_part, lengths, _ = _read_index(part)
        covered.update(of_part.tolist())
        tokens += int(lengths.sum())
    if missing := set(rows) - covered:
        raise DatasetError(f"{folder} lacks {len(missing)} rows, row {min(missing)} for one: delete it and repeat")
    content = {
        "key": asdict(key),
        "rows": len(covered),
        "tokens": tokens,
        "parts": {part.name: part.stat().st_size for part in parts},
        "bytes": sum(part.stat().st_size for part in parts),
        "cost": cost,
    }
    write_sealed_json(folder / CACHE_FILE, content)
    return content


def _read_index(part: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, lengths and checksums of a part whose arrays have a place for every token.

    Raises:
        DatasetError: it is damaged.
    """
    try:
        with safe_open(part, framework="numpy") as handle:
            rows, lengths, checksums = index = tuple(handle.get_tensor(name) for name in INDEX)
            sizes = {handle.get_slice(name).get_shape()[0] for name in handle.keys() if name not in INDEX}  # noqa: SIM118
    # IndexError: an array without dimensions.
    except (OSError, SafetensorError, IndexError) as error:
        raise _damaged(part, str(error)) from error
    if any(array.dtype != np.int64 or array.shape != (len(lengths),) for array in index):
        raise _damaged(part, "its index is not of one size")
    if sizes != {sum(lengths.tolist())} or lengths.min(initial=1) < 1:
        raise _damaged(part, "its lengths are not those of its arrays")
    return rows, lengths, checksums


def _damaged(part: Path, reason: str) -> DatasetError:
    return DatasetError(f"{part} is damaged ({reason}): delete it and {CACHE_FILE} beside it, and repeat `{COMMAND}`")


def read_cache_file(folder: Path, key: CacheKey, making: str | None = None) -> dict[str, Any]:
    """The content of a finished cache of this very key.

    Args:
        folder: that of the cache.
        key: what it is to be of.
        making: the command that makes it, where more is known of it than the source.

    Raises:
        DatasetError: there is none, it is unfinished, or parts of it are missing or cut off.
        MismatchError: it was made for something else.
    """
    making = making or f"{COMMAND} reference.source={key.source}"
    if not folder.is_dir():
        raise DatasetError(f"no reference cache at {folder}: make it with `{making}`")
    file = folder / CACHE_FILE
    if not file.exists():
        raise DatasetError(f"the reference cache {folder} is not finished: repeat `{making}`; it goes on")
    content = _read_content(folder, making)
    _refuse_other(folder, content["key"], key, making)
    for name, size in content["parts"].items():
        part = folder / name
        if not part.is_file() or part.stat().st_size != size:
            raise DatasetError(
                f"{part} is {'cut off' if part.exists() else 'missing'}: delete {file} and repeat `{making}`"
            )
    return content


def _read_content(folder: Path, making: str = COMMAND) -> dict[str, Any]:
    file = folder / CACHE_FILE
    content, is_sealed = read_sealed_json(file, f"delete it and repeat `{making}`")
    if not is_sealed:
        raise DatasetError(f"{file} is damaged, or of an earlier version: delete {folder} and repeat `{making}`")
    for name in content["parts"]:
        if not PART_NAME.fullmatch(name):
            raise DatasetError(f"{file} names {name!r}, which lies outside the cache: delete {folder}")
    return content


def describe_cache(folder: Path, content: dict[str, Any]) -> str:
    """What a finished cache is, in a line, with what is free beside it."""
    seconds = sum(content["cost"]["device_seconds"].values())
    free = shutil.disk_usage(folder).free
    return (
        f"{folder}: {content['rows']:,} trajectories, {content['tokens']:,} tokens, {content['bytes'] / 1e6:,.1f} MB "
        f"({content['bytes'] / max(1, content['tokens']):,.0f} bytes a token), {seconds:,.0f} device-seconds; "
        f"{free / 1e9:,.0f} GB free"
    )


class ReferenceCache:
    """A finished cache, for reading by row of the dataset.

    Only an index is in memory, of 40 bytes a row. What is read is checked against its checksum.

    Args:
        folder: that of a cache which `read_cache_file` has approved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = _read_content(folder)
        self.source: str = content["key"]["source"]
        self.scoring_temperature: float = content["key"]["scoring_temperature"]
        self._files = [folder / name for name in content["parts"]]
        self._handles: dict[int, Any] = {}
        columns: list[tuple[np.ndarray, ...]] = []
        for number, file in enumerate(self._files):
            rows, lengths, checksums = _read_index(file)
            columns.append((rows, np.full(len(rows), number), np.cumsum(lengths) - lengths, lengths, checksums))
        index = [np.concatenate(column) for column in zip(*columns, strict=True)]
        # Sorted once; a batch finds its rows by bisection.
        order = np.argsort(index[0], kind="stable")
        self._rows, self._parts, self._starts, self._lengths, self._checksums = (column[order] for column in index)

    def read(self, rows: Iterable[int], lengths: Iterable[int]) -> dict[str, torch.Tensor]:
        """The arrays of the given rows, one after another.

        Raises:
            DatasetError: a row is not in the cache, has another number of response tokens there, or is damaged.
        """
        pieces: dict[str, list[torch.Tensor]] = {}
        for row, length in zip(rows, lengths, strict=True):
            place = int(np.searchsorted(self._rows, row))
            if place == len(self._rows) or self._rows[place] != row or self._lengths[place] != length:
                raise DatasetError(
                    f"{self.folder / CACHE_FILE} does not cover row {row} of the dataset: delete {self.folder} and "
                    f"repeat `{COMMAND}`"
                )
            part, start = int(self._parts[place]), int(self._starts[place])
            handle = self._handle(part)
            names = [name for name in handle.keys() if name not in INDEX]  # noqa: SIM118  no dictionary
            arrays = {name: handle.get_slice(name)[start : start + length] for name in names}
            if _checksum(row, arrays) != self._checksums[place]:
                raise DatasetError(
                    f"{self._files[part]} is damaged at row {row}: delete it and {CACHE_FILE} beside it, and repeat "
                    f"`{COMMAND}`"
                )
            for name, array in arrays.items():
                pieces.setdefault(name, []).append(array)
        return {name: torch.cat(found) for name, found in pieces.items()}

    def _handle(self, part: int) -> Any:
        if part not in self._handles:
            self._handles[part] = safe_open(self._files[part], framework="pt")
        return self._handles[part]
