"""The manifest of a rollout dataset: what it is, what made it, what it cost. Written last."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.files import sha256_of, write_json

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 2


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
        DatasetError: it is missing, cut off or damaged, or lies outside the dataset.
    """
    path = folder / record.file
    if Path(record.file).name != record.file:
        raise DatasetError(f"{folder}: the manifest names {record.file}, which lies outside the dataset")
    if not path.exists():
        raise DatasetError(f"{path} is missing: restore it, or collect or import again")
    if path.stat().st_size != record.bytes:
        raise DatasetError(f"{path} is damaged (its size is not the manifest's): restore it")
    if checksum and sha256_of(path) != record.sha256:
        raise DatasetError(f"{path} is damaged (its checksum is not the manifest's): restore it")
    return path


@dataclass(frozen=True)
class Manifest:
    """Everything known about a dataset except its rows.

    Attributes:
        fingerprints: model, tokenizer, template, scorer, problems.
        sampling: temperature, top_p, top_k, max_response_tokens, rollouts_per_problem.
        counts: trajectories by status, groups by outcome, tokens (see `index.count`).
        cost: device_seconds by phase, devices, device; empty for imported text.
        origin: how the rollouts came about: "collect" or "import", and from what.
        validation: fraction of problems held out and the seed that chose them.
        versions: of the packages that took part.
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
        write_json(folder / MANIFEST_FILE, asdict(self))

    @property
    def device_seconds(self) -> float:
        """Device-seconds spent on making the dataset, all phases together."""
        return float(sum(self.cost.get("device_seconds", {}).values()))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished dataset.

    Raises:
        DatasetError: no such folder, not finished, or of another format.
    """
    if not folder.is_dir():
        raise DatasetError(
            f"no rollout dataset at {folder}: make one with `python -m verl.trainer.main recipe=collect "
            f"rollouts={folder}` or `fpa-verl data import`, or name another with rollouts=FOLDER"
        )
    file = folder / MANIFEST_FILE
    if not file.exists():
        raise DatasetError(
            f"{folder} has no {MANIFEST_FILE}: the dataset is not finished. Repeat the command that was "
            "making it; it goes on where it stopped"
        )
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if raw["format_version"] != FORMAT_VERSION:
            raise DatasetError(
                f"{file} has format {raw['format_version']}, not {FORMAT_VERSION} as this version writes it: "
                "delete the folder, or name another with rollouts=, and collect or import again"
            )
        files = {"index": FileRecord(**raw["index"]), "shards": [FileRecord(**shard) for shard in raw["shards"]]}
        return Manifest(**{**raw, **files})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DatasetError(f"{file} is damaged ({error!r}): restore it, or collect or import again") from error
