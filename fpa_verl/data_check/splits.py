"""Whether the problem files of a dataset are those of its rollouts, and share no problem with each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from fpa_verl.data_check.faults import Faults
from fpa_verl.data_check.problem_files import Against, contamination, matches_found
from fpa_verl.errors import FpaError
from fpa_verl.evaluation.contamination import ProblemIndex
from fpa_verl.evaluation.problem_sets import ProblemSet
from fpa_verl.findings import Finding
from fpa_verl.rollouts.manifest import Manifest
from fpa_verl.rollouts.parquet import read_table
from fpa_verl.rollouts.problems import Problem, problems_fingerprint, read_problems
from fpa_verl.rollouts.schema import TRAIN, VALIDATION

SUBJECT = "problems"
REMEDY = "restore it, or collect or import again"


def check_splits(folder: Path, manifest: Manifest, index: pd.DataFrame, against: Against) -> Iterator[Finding]:
    """Compare train.parquet and validation.parquet with manifest, rollouts and each other."""
    try:
        problems = {split: _read(folder / f"{split}.parquet") for split in (TRAIN, VALIDATION)}
    except FpaError as error:
        yield Finding(SUBJECT, "wrong", str(error))
        return
    there = {split: found for split, found in problems.items() if found is not None}
    if len(there) < len(problems):
        absent = " and ".join(f"{split}.parquet" for split in problems if split not in there)
        yield Finding(SUBJECT, "note", f"no {absent}: problems were not looked at")
        return
    yield from _agreement(manifest, index, there)
    yield from _contamination(there, against)


def _read(path: Path) -> list[Problem] | None:
    """The problems of a file, None where there is no file; a dataset may hold out no problem."""
    if not path.exists():
        return None
    return read_problems(str(path)) if len(read_table(path)) else []


def _agreement(manifest: Manifest, index: pd.DataFrame, problems: dict[str, list[Problem]]) -> Iterator[Finding]:
    faults = Faults()
    split_of: dict[str, str] = {}
    for split, found in problems.items():
        for row, problem in enumerate(found):
            if split_of.setdefault(problem.problem_id, split) != split:
                faults.add(
                    SUBJECT, f"{split}.parquet, row {row}: problem '{problem.problem_id}' is in train.parquet as well"
                )
    everything = [problem for found in problems.values() for problem in found]
    if manifest.fingerprints.get("problems") not in (None, problems_fingerprint(everything)):
        faults.add(SUBJECT, "train.parquet and validation.parquet do not hold the problems that the manifest names")
    first_rows = index.drop_duplicates(["problem_id", "split"])
    for problem_id, split in zip(first_rows["problem_id"], first_rows["split"], strict=True):
        if split_of.get(problem_id) != split:
            faults.add(SUBJECT, f"problem '{problem_id}' has rollouts marked {split}, and is not in {split}.parquet")
    counts = ", ".join(f"{len(found):,} in {split}.parquet" for split, found in problems.items())
    yield from faults.findings(SUBJECT, REMEDY, f"{counts}, those of the manifest and of the rollouts")


def _contamination(problems: dict[str, list[Problem]], against: Against) -> Iterator[Finding]:
    training, held_out = (
        ProblemSet(f"{split}.parquet", problems[split], against.prompt) for split in (TRAIN, VALIDATION)
    )
    yield from (Finding("contamination", "note", note) for note in training.prompt_notes())
    if held_out.problems:
        found = ProblemIndex(training.texts()).compare(held_out.texts(), against.near)
        yield from matches_found(held_out.name, found, len(held_out.problems))
    try:
        yield from contamination(training, against)
    except FpaError as error:
        yield Finding("contamination", "wrong", str(error))
