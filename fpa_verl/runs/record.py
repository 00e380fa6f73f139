"""Writing into a run directory: what the run is, and its evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fpa_verl.errors import MismatchError
from fpa_verl.files import append_json_line, read_json_lines, write_json
from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.runs.inputs import DATASET, RUN, read_inputs
from fpa_verl.runs.names import EVALUATIONS_FILE, RUN_FILE
from fpa_verl.runs.run import Run, read_info

FINGERPRINTS = "fingerprints"


def identity_of(info: dict[str, Any]) -> dict[str, Any]:
    """What may not change between the attempts of one run."""
    return {
        "recipe": info["recipe"],
        FINGERPRINTS: info[FINGERPRINTS],
        "evaluation": info["evaluation"],
        "dataset": next((one.fingerprint for one in read_inputs(info) if one.kind == DATASET), None),
        "earlier run": [(one.fingerprint, one.about) for one in read_inputs(info) if one.kind == RUN],
        "training": info.get("training"),
        "seed": info.get("seed"),
    }


def run_fingerprint(folder: str, info: dict[str, Any]) -> str:
    """Of a run as an input of others: of where it is, and of what may not change there."""
    return digest({"folder": folder, **identity_of(info)})


def open_run(folder: Path, info: dict[str, Any]) -> None:
    """Begin an attempt: write run.json, or check that the one there describes this run, and note how it is typed now.

    Raises:
        MismatchError: the folder holds a run of another recipe, model, data or evaluation.
    """
    file = folder / RUN_FILE
    if file.exists():
        before = identity_of(read_info(file))
        now = identity_of(json.loads(json.dumps(info)))
        changed = [key for key in now if key != FINGERPRINTS and before[key] != now[key]]
        # Which of them is what a user can do something about.
        one, other = before[FINGERPRINTS], now[FINGERPRINTS]
        changed += [name for name in {**one, **other} if one.get(name) != other.get(name)]
        if changed:
            raise MismatchError(
                f"{folder} holds another run (its {', '.join(changed)} differs): choose run_dir=FOLDER, or delete it"
            )
        written = json.loads(file.read_text(encoding="utf-8"))
        if "command" not in info or written.get("command") == info["command"]:
            return
        info = {**written, "command": info["command"]}
    write_json(file, info)


def record_evaluation(
    folder: Path,
    *,
    attempt: int,
    step: int,
    problems: Mapping[str, Mapping[str, Sequence[int]]],
    asked_for: Mapping[str, int] | None = None,
    trained: bool = False,
    measured_in: str = "",
) -> None:
    """Append one evaluation.

    Args:
        folder: run directory.
        attempt: number of the run's attempt, from 1.
        step: that of the model.
        problems: data source to problem id to [right, sampled].
        asked_for: samples that were wanted, by data source; those that failed to generate or whose scorer
            failed are missing in `problems`. None: no more than are there.
        trained: whether this attempt trained that step, and does not go on from it.
        measured_in: folder of the evaluation that it is taken from; empty for one of the run's own.
    """
    for data_source in asked_for or problems:
        outcomes = problems.get(data_source, {})
        sampled = sum(count for _, count in outcomes.values())
        append_json_line(
            folder / EVALUATIONS_FILE,
            {
                "attempt": attempt,
                "step": step,
                "data_source": data_source,
                "problems": outcomes,
                "unscored": asked_for[data_source] - sampled if asked_for else 0,
                "trained": trained,
                **({"measured_in": measured_in} if measured_in else {}),
            },
        )


def record_base(folder: Path, base: Run, attempt: int) -> None:
    """Put what an evaluation of the base model found at a run's step 0, unless something stands there already.

    Args:
        folder: run directory.
        base: the evaluation.
        attempt: number of the run's attempt, from 1.
    """
    wanted = read_info(folder / RUN_FILE)["evaluation"]["problem_sets"]
    there = {record["data_source"] for record in read_json_lines(folder / EVALUATIONS_FILE) if not record["step"]}
    points = [point for point in base.points if point.data_source in wanted and point.data_source not in there]
    for point in points:
        sampled = sum(count for _, count in point.problems.values())
        record_evaluation(
            folder,
            attempt=attempt,
            step=0,
            problems={point.data_source: point.problems},
            asked_for={point.data_source: sampled + point.unscored},
            measured_in=str(base.folder),
        )
