"""The manifest of a rollout dataset: what it is, what made it, what it cost. Written last."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fpa_verl.commands import Command
from fpa_verl.errors import DatasetError
from fpa_verl.files import sha256_of
from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.rollouts.sealed_json import read_sealed_json, write_sealed_json

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 3
# The same without a checksum of its own: still read.
UNSEALED_VERSION = 2
REMEDY = "restore it, or collect or import again"
# What `origin` says of a dataset that was made from searched trees (`trees/datasets.py`), and what was made: also the
# names of its folder among the trees, where recipes look for it.
FROM_TREES = "tree"
STEPS, SOLUTIONS = "steps", "solutions"
# The kind that the manifest of the trees themselves names; others name none.
OF_TREES = "trees"
FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class FileRecord:
    """A file of the dataset as it was when it was finished."""

    file: str
    rows: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, rows: int) -> FileRecord:
        return cls(path.name, rows, path.stat().st_size, sha256_of(path))


def require_whole(folder: Path, record: FileRecord, *, checksum: bool = False) -> Path:
    """The path of a recorded file that is there in its full size, and with its very bytes if they are to be compared.

    Raises:
        DatasetError: it is missing, cut off or damaged.
    """
    path = folder / record.file
    if not path.is_file():
        raise DatasetError(f"{path} is missing: restore it, or collect or import again")
    if path.stat().st_size != record.bytes:
        raise DatasetError(f"{path} is damaged (its size is not the manifest's): restore it")
    if checksum and sha256_of(path) != record.sha256:
        raise DatasetError(f"{path} is damaged (its checksum is not the manifest's): restore it")
    return path


def digest_of(shards: Sequence[FileRecord]) -> str:
    """One of all shards of a dataset, by their names and checksums."""
    return digest([[shard.file, shard.sha256] for shard in shards])


@dataclass(frozen=True)
class Manifest:
    """Everything known about a dataset except its rows.

    Attributes:
        fingerprints: model, tokenizer, template, scorer, problems.
        sampling: temperature, top_p, top_k, max_response_tokens, rollouts_per_problem.
        counts: trajectories by status, groups by outcome, tokens (see `index.count`).
        cost: device_seconds by phase, devices, device; empty for imported text.
        origin: how the rollouts came about: "collect", "import" or "tree", from what, and the model's vocabulary_size.
        validation: fraction of problems held out and the seed that chose them.
        versions: package to version, of those that took part.
        format_version: `FORMAT_VERSION`, or `UNSEALED_VERSION` of a file that an earlier version wrote.
    """

    fingerprints: dict[str, str]
    sampling: dict[str, Any]
    counts: dict[str, int]
    cost: dict[str, Any]
    origin: dict[str, Any]
    validation: dict[str, Any]
    versions: dict[str, str]
    index: FileRecord
    shards: list[FileRecord] = field(default_factory=list)
    format_version: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        write_sealed_json(folder / MANIFEST_FILE, asdict(self))

    @property
    def is_imported(self) -> bool:
        """Whether its rollouts were made elsewhere, at a cost that is not known."""
        return bool(self.origin.get("kind") == "import")

    @property
    def is_from_trees(self) -> bool:
        """Whether a search of trees found its rollouts, whose cost it has: they are no independent samples."""
        return bool(self.origin.get("kind") == FROM_TREES)

    @property
    def holds_steps(self) -> bool:
        """Whether its responses are single steps of solutions, which no scorer has scored."""
        return self.is_from_trees and self.origin.get("made") == STEPS

    @property
    def device_seconds(self) -> float:
        """Device-seconds spent on making the dataset, all phases together."""
        return float(sum(self.cost.get("device_seconds", {}).values()))

    @property
    def fingerprint(self) -> str:
        """Digest of the dataset's shards."""
        return digest_of(self.shards)

    @property
    def vocabulary_size(self) -> int | None:
        """Tokens that the model knows; None where that was not recorded."""
        size = self.origin.get("vocabulary_size")
        return size if type(size) is int else None


def read_manifest(folder: Path, collecting: str | None = None) -> Manifest:
    """The manifest of a finished dataset.

    Args:
        folder: that of the dataset.
        collecting: the command that would make it, where more is known of it than the folder.

    Raises:
        DatasetError: no such folder, not finished, of another format, damaged, or naming files elsewhere.
    """
    if not folder.is_dir():
        command = collecting or Command().for_recipe("collect", {"rollouts": str(folder)})
        raise DatasetError(
            f"no rollout dataset at {folder}: make one with `{command}` or `fpa-verl data import`, or name another "
            "with rollouts=FOLDER"
        )
    file = folder / MANIFEST_FILE
    if not file.exists():
        raise DatasetError(
            f"{folder} has no {MANIFEST_FILE}: the dataset is not finished. Repeat the command that was "
            "making it; it goes on where it stopped"
        )
    raw, is_sealed = read_sealed_json(file, REMEDY)
    if raw.get("kind") == OF_TREES:
        raise DatasetError(
            f"{folder} holds searched trees, of which `fpa-verl data {STEPS} {folder}` and `fpa-verl data {SOLUTIONS} "
            f"{folder}` make rollout datasets: name {folder / STEPS} or {folder / SOLUTIONS}"
        )
    version = raw.get("format_version")
    if version not in (FORMAT_VERSION, UNSEALED_VERSION):
        raise DatasetError(
            f"{file} has format {version!r}, not {FORMAT_VERSION} as this version writes it: "
            "delete the folder, or name another with rollouts=, and collect or import again"
        )
    if is_sealed != (version == FORMAT_VERSION):
        raise DatasetError(f"{file} is damaged (its checksum is gone): {REMEDY}")
    try:
        files = {"index": file_record(raw["index"]), "shards": [file_record(shard) for shard in raw["shards"]]}
        manifest = Manifest(**{**raw, **files})
        _require_sense(manifest)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{file} is damaged ({error!r}): {REMEDY}") from error
    require_inside(file, [manifest.index, *manifest.shards])
    return manifest


def require_inside(manifest: Path, records: Iterable[FileRecord]) -> None:
    """Refuse a manifest that names files elsewhere.

    Raises:
        DatasetError: naming the first.
    """
    for record in records:
        if not FILE_NAME.fullmatch(record.file):
            raise DatasetError(f"{manifest} names {record.file!r}, which lies outside the dataset: {REMEDY}")


def file_record(raw: dict[str, Any]) -> FileRecord:
    """A file of a manifest's.

    Raises:
        TypeError: it is not what `FileRecord.of` makes.
    """
    record = FileRecord(**raw)
    kinds = {"file": str, "rows": int, "bytes": int, "sha256": str}
    for name, kind in kinds.items():
        if type(getattr(record, name)) is not kind:
            raise TypeError(f"{name} of a file is {getattr(record, name)!r}")
    return record


def _require_sense(manifest: Manifest) -> None:
    """Refuse what no writer writes, with a `TypeError` or `ValueError`."""
    for name in ("fingerprints", "sampling", "counts", "cost", "origin", "validation", "versions"):
        if not isinstance(getattr(manifest, name), dict):
            raise TypeError(f"{name} is {getattr(manifest, name)!r}")
    if any(type(value) is not int for value in manifest.counts.values()):
        raise TypeError("a count is no number")
    if not isinstance(manifest.cost.get("device_seconds", {}), dict):
        raise TypeError("device_seconds are no phases")
    _ = manifest.device_seconds
    if any(shard.rows < 1 for shard in manifest.shards):
        raise ValueError("a shard without rows")
    if (rows := sum(shard.rows for shard in manifest.shards)) != manifest.index.rows:
        raise ValueError(f"its shards have {rows} rows, its index {manifest.index.rows}")
    names = [record.file for record in (manifest.index, *manifest.shards)]
    if len(set(names)) < len(names):
        raise ValueError("a file is named twice")
