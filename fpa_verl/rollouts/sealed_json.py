"""JSON files that hold a digest of their own content, so that damage shows wherever it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.files import write_json

SEAL = "sha256"


def write_sealed_json(file: Path, content: dict[str, Any]) -> None:
    """Write `content` atomically, with its digest under the key `SEAL`."""
    # As it will be read: keys are text then, and tuples lists.
    stored = json.loads(json.dumps(content))
    write_json(file, {**stored, SEAL: _digest(stored)})


def read_sealed_json(file: Path, remedy: str) -> tuple[dict[str, Any], bool]:
    """The content without its digest, and whether there was one to compare it with.

    Args:
        file: written by `write_sealed_json`, or by an earlier version, without a digest.
        remedy: what to do about a damaged one; ends the error's message.

    Raises:
        DatasetError: no JSON object, or not what was written.
    """
    try:
        content = json.loads(file.read_bytes().decode("utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"a JSON object is wanted, not {type(content).__name__}")
        seal = content.pop(SEAL, None)
        found = _digest(content)
    # ValueError: no UTF-8, no JSON, a number of thousands of digits. RecursionError: brackets without end.
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DatasetError(f"{file} is damaged ({error}): {remedy}") from error
    if seal not in (None, found):
        raise DatasetError(f"{file} is damaged (its content is not what its checksum was made of): {remedy}")
    return content, seal is not None


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
