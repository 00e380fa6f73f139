"""The manifest of a rollout dataset: what it is, what made it, what it cost. Written last."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.files import write_json

MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Shard:
    file: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything known about a dataset except its rows.

    Attributes:
        fingerprints: model, tokenizer, template, scorer, problems.
        sampling: temperature, top_p, top_k, max_response_tokens, rollouts_per_problem.
        counts: trajectories by status, groups by outcome, tokens (see `writer.count_rows`).
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
    shards: list[Shard] = field(default_factory=list)
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
            raise DatasetError(f"{file} has format {raw['format_version']}; this version reads {FORMAT_VERSION}")
        return Manifest(**{**raw, "shards": [Shard(**shard) for shard in raw["shards"]]})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DatasetError(f"{file} is damaged ({error!r}): restore it, or collect or import again") from error
