"""Snapshots of a run: its model every so many steps, which `recipe=evaluate_snapshots` evaluates afterwards."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpa_verl.files import atomic_folder, read_json_lines, write_json
from fpa_verl.runs.inputs import MODEL_FILE
from fpa_verl.runs.names import BEST_MODEL, EVALUATIONS_FILE, RUN_FILE, SNAPSHOTS_FOLDER
from fpa_verl.runs.run import read_info, read_run
from fpa_verl.runs.validation import best_step, validation_accuracy, validation_sources


@dataclass(frozen=True)
class Snapshot:
    """A model that a run had.

    Attributes:
        folder: the model, in Hugging Face format.
        attempt: of the run, from 1, which trained that step.
    """

    folder: Path
    step: int
    attempt: int

    @property
    def about(self) -> dict[str, Any]:
        """What stands beside the model."""
        return _about(self.folder)


def snapshot_folder(run_dir: Path, step: int) -> Path:
    return run_dir / SNAPSHOTS_FOLDER / f"step_{step}"


def snapshots_of(run_dir: Path) -> list[Snapshot]:
    """The snapshots of a run, in the order of their steps."""
    found = []
    for file in run_dir.glob(f"{SNAPSHOTS_FOLDER}/step_*/{MODEL_FILE}"):
        about = _about(file.parent)
        found.append(Snapshot(file.parent, about["step"], about["attempt"]))
    return sorted(found, key=lambda snapshot: snapshot.step)


def not_evaluated(run_dir: Path) -> list[Snapshot]:
    """Those of its snapshots that were not evaluated on all of the run's problem sets.

    A step that was trained again is another model, and is evaluated again.
    """
    if not (run_dir / RUN_FILE).exists():
        return []
    sources = set(read_info(run_dir / RUN_FILE)["evaluation"]["problem_sets"])
    done: dict[tuple[int, int], set[str]] = {}
    for record in read_json_lines(run_dir / EVALUATIONS_FILE):
        done.setdefault((record["attempt"], record["step"]), set()).add(record["data_source"])
    return [one for one in snapshots_of(run_dir) if sources - done.get((one.attempt, one.step), set())]


def keep_best_snapshot(run_dir: Path) -> int | None:
    """Make the snapshot of the highest validation accuracy the run's best model; its step, None where it has none."""
    run = read_run(run_dir)
    if not validation_sources(run) or not run.points:
        return None
    best = best_step(run)
    snapshot = next((one for one in snapshots_of(run_dir) if one.step == best), None)
    if snapshot is None:
        return None
    if (run_dir / BEST_MODEL / MODEL_FILE).exists() and _about(run_dir / BEST_MODEL)["step"] == best:
        return best
    with atomic_folder(run_dir / BEST_MODEL) as unfinished:
        # The same files: a model may be large.
        shutil.copytree(snapshot.folder, unfinished, copy_function=_link, dirs_exist_ok=True)
        (unfinished / MODEL_FILE).unlink()
        about = {**snapshot.about, "validation_accuracy": validation_accuracy(run, best)}
        write_json(unfinished / MODEL_FILE, about)
    return best


def _about(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    return about


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
