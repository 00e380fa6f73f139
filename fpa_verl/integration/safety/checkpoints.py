"""Checkpoints of a run: which of them are whole, and how many are kept.

verl writes `global_step_N/` file by file and, last, the number N into a file beside it. Killed on the way it leaves a
folder that looks like a checkpoint, or that file empty. Here a folder counts as a checkpoint once it is sealed: a
marker in it, written last and atomically, lists its files and their sizes. torch stores a CRC-32 with every tensor,
which is what is verified before a run goes on from one.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

from fpa_verl.files import write_json

MARKER = "fpa_verl.json"


def step_of(folder: Path) -> int | None:
    """The step of a checkpoint folder; None for another folder."""
    match = re.fullmatch(r"global_step_(\d+)", folder.name)
    return int(match[1]) if match else None


def checkpoints_in(root: Path) -> list[Path]:
    """All folders of checkpoints under `root`, sealed or not, the newest first."""
    folders = [folder for folder in root.glob("global_step_*") if step_of(folder) is not None]
    return sorted(folders, key=lambda folder: step_of(folder) or 0, reverse=True)


def seal(folder: Path) -> None:
    """Mark a checkpoint as whole; what follows a kill before this never counts."""
    files = {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    write_json(folder / MARKER, {"bytes": files})


def unseal(folder: Path) -> None:
    """What is about to be written over is no checkpoint until it is sealed again."""
    (folder / MARKER).unlink(missing_ok=True)


def damage(folder: Path) -> str | None:
    """Why a run cannot go on from this checkpoint, file by name; None where it can."""
    try:
        sizes = json.loads((folder / MARKER).read_text(encoding="utf-8"))["bytes"]
    except FileNotFoundError:
        return "not whole: the run ended while it was written"
    except (ValueError, KeyError, TypeError) as error:
        return f"{MARKER} cannot be read ({error})"
    for name, size in sizes.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size:,} bytes, and had {size:,} when it was written"
        if file.suffix == ".pt" and (reason := _damaged_archive(file)):
            return f"{name} {reason}"
    return None


def _damaged_archive(file: Path) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except Exception as error:
        # A flipped bit may turn up as any error of zipfile, zlib or the file system.
        return f"is damaged ({error})"
    return f"is damaged (checksum of {broken})" if broken else None


def newest_whole(root: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint that is whole, and why each newer one is passed over."""
    skipped: dict[Path, str] = {}
    for folder in checkpoints_in(root):
        reason = damage(folder)
        if reason is None:
            return folder, skipped
        skipped[folder] = reason
    return None, skipped


def keep_newest(root: Path, keep: int | None) -> None:
    """Delete all but the newest `keep` sealed checkpoints, and what lies unsealed; None: keep all.

    To be called when a new one is sealed, so that there is a whole one at any time.
    """
    if not keep or keep < 0:
        return
    sealed = [folder for folder in checkpoints_in(root) if (folder / MARKER).exists()]
    for folder in checkpoints_in(root):
        if folder not in sealed[:keep]:
            # Without its marker first: half deleted it is no checkpoint.
            unseal(folder)
            shutil.rmtree(folder, ignore_errors=True)
