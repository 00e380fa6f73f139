"""A run directory: what the trainer writes into it and what the report reads back.

run.json            what the run is (fingerprints, dataset and its cost, hardware, versions)
config.yaml         the resolved configuration
ledger.jsonl        where the time went (`fpa_verl.report.ledger`)
evaluations.jsonl   accuracy by step and problem set, with the outcome of every problem
metrics.N.jsonl     metrics of every step of attempt N, as verl logs them
checkpoints/        verl's checkpoints
best/               the model of the highest validation accuracy, in Hugging Face format
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.evaluation import pass_at_1
from fpa_verl.files import append_json_line, read_json_lines, write_json
from fpa_verl.report.ledger import LEDGER_FILE, NOT_COST

RUN_FILE = "run.json"
EVALUATIONS_FILE = "evaluations.jsonl"
BEST_MODEL = "best"


def _identity(info: dict[str, Any]) -> dict[str, Any]:
    """What may not change between the attempts of one run."""
    dataset = info.get("dataset") or {}
    return {
        "recipe": info["recipe"],
        "fingerprints": info["fingerprints"],
        "evaluation": info["evaluation"],
        "dataset": dataset.get("fingerprint"),
        "training": info.get("training"),
        "seed": info.get("seed"),
    }


@dataclass(frozen=True)
class Point:
    """One evaluation of one problem set.

    Attributes:
        device_seconds: the run's own cost up to this evaluation; the dataset's not included.
        problems: problem id to (right, sampled).
    """

    step: int
    data_source: str
    device_seconds: float
    problems: dict[str, tuple[int, int]]

    @property
    def accuracy(self) -> float:
        return pass_at_1(self.problems).mean

    @property
    def standard_error(self) -> float:
        return pass_at_1(self.problems).standard_error


@dataclass(frozen=True)
class Run:
    """A run directory, read."""

    folder: Path
    info: dict[str, Any]
    points: list[Point]
    phase_device_seconds: dict[str, float]
    finished: bool = True
    """Whether the run reached its last step, or stopped early."""
    unscored: int = 0
    """Samples of all evaluations together that are in no accuracy."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def recipe(self) -> str:
        return str(self.info["recipe"])

    @property
    def training(self) -> dict[str, Any]:
        """What the run optimised and how: objective, hyper-parameters, learning rate, batch, selection."""
        return dict(self.info.get("training") or {})

    @property
    def dataset_device_seconds(self) -> float:
        """What making the training data and its reference cache cost; 0 for a run that generates its own."""
        parts = (self.info.get(name) or {} for name in ("dataset", "reference"))
        return float(sum(part.get("device_seconds", 0.0) for part in parts))

    @property
    def data_cost_is_known(self) -> bool:
        """False for imported text: somebody paid for it, but nobody wrote down how much."""
        dataset = self.info.get("dataset")
        return dataset is None or bool(dataset.get("cost"))

    def of_source(self, data_source: str) -> list[Point]:
        return sorted((p for p in self.points if p.data_source == data_source), key=lambda p: p.step)


def metrics_file(attempt: int) -> str:
    """Name of the file that verl's metrics of one attempt go to."""
    return f"metrics.{attempt}.jsonl"


def open_run(folder: Path, info: dict[str, Any]) -> None:
    """Begin an attempt: write run.json, or check that the one there describes this very run.

    Raises:
        MismatchError: the folder holds a run of another recipe, model, data or evaluation.
    """
    file = folder / RUN_FILE
    if file.exists():
        before = _identity(json.loads(file.read_text(encoding="utf-8")))
        now = _identity(json.loads(json.dumps(info)))
        changed = [key for key in now if before[key] != now[key]]
        if changed:
            raise MismatchError(
                f"{folder} holds another run (its {', '.join(changed)} differs): choose run_dir=FOLDER, or delete it"
            )
        return
    write_json(file, info)


def is_finished(folder: Path) -> bool:
    """Whether the run in `folder` reached its last step, or stopped early."""
    return any(record["kind"] == "end" for record in read_json_lines(folder / LEDGER_FILE))


def stopped_early(folder: Path) -> bool:
    """Whether the run in `folder` ended because validation no longer improved."""
    return any(record.get("stopped_early") for record in read_json_lines(folder / LEDGER_FILE))


def record_evaluation(
    folder: Path, *, attempt: int, step: int, problems: dict[str, dict[str, list[int]]], unscored: int = 0
) -> None:
    """Append one evaluation: data source to problem id to [right, sampled].

    `unscored` samples, which failed to generate or whose scorer failed, are in neither number.
    """
    for data_source, outcomes in problems.items():
        append_json_line(
            folder / EVALUATIONS_FILE,
            {
                "attempt": attempt,
                "step": step,
                "data_source": data_source,
                "problems": outcomes,
                "unscored": unscored,
            },
        )


def read_run(folder: Path) -> Run:
    """Read a run directory, finished or not.

    Steps that a later attempt did again count twice in the cost, because they were paid twice.
    """
    file = folder / RUN_FILE
    if not file.exists():
        raise DatasetError(f"{folder} is no run directory ({RUN_FILE} is missing): give folders that a recipe wrote")
    info = json.loads(file.read_text(encoding="utf-8"))
    ledger = read_json_lines(folder / LEDGER_FILE)
    devices = {record["attempt"]: record["devices"] for record in ledger if record["kind"] == "attempt"}
    phases: dict[str, float] = {}
    # (attempt, step) to the cost up to the end of that step.
    cost_at: dict[tuple[int, int], float] = {}
    spent_by: dict[int, float] = {}
    for record in ledger:
        for phase, seconds in record.get("seconds", {}).items():
            phases[phase] = phases.get(phase, 0.0) + seconds * devices[record["attempt"]]
        spent = sum(s for p, s in phases.items() if p not in NOT_COST)
        spent_by[record["attempt"]] = spent
        if "step" in record:
            cost_at[record["attempt"], record["step"]] = spent
    points: dict[tuple[str, int], Point] = {}
    evaluations = read_json_lines(folder / EVALUATIONS_FILE)
    for record in evaluations:
        problems = {key: (right, sampled) for key, (right, sampled) in record["problems"].items()}
        step, source = record["step"], record["data_source"]
        # A resumed run evaluates the step it starts from once more: the first measurement stands.
        # One without a record of its step was cut short; all that was spent by then counts.
        cost = cost_at.get((record["attempt"], step), spent_by.get(record["attempt"], 0.0))
        points.setdefault((source, step), Point(step, source, cost if step else 0.0, problems))
    unscored = sum(record.get("unscored", 0) for record in evaluations)
    return Run(folder, info, list(points.values()), phases, is_finished(folder), unscored)


def find_runs(paths: list[Path]) -> list[Run]:
    """Runs at `paths` or one or more levels below them, in order of name."""
    folders: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise DatasetError(f"no folder at {path}: give run directories, or a folder that holds some")
        for file in sorted(path.rglob(RUN_FILE)):
            folders.setdefault(file.parent)
    return [read_run(folder) for folder in folders]
