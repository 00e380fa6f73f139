"""A run directory: what the trainer writes into it and what the report reads back.

run.json            what the run is (fingerprints, dataset and its cost, hardware, versions)
config.yaml         the resolved configuration
ledger.jsonl        where the time went (`fpa_verl.report.ledger`)
evaluations.jsonl   accuracy by step and problem set, with the outcome of every problem
metrics.N.jsonl     metrics of every step of attempt N, as verl logs them
batches.jsonl       rows of the rollout dataset that each step of an offline run trained on
tokens/N.jsonl      log-probs of a few trajectories, token by token, as worker N trained on them (`report.tokens`)
checkpoints/        verl's checkpoints
best/               the model of the highest validation accuracy, in Hugging Face format
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.evaluation import pass_at_1
from fpa_verl.files import append_json_line, read_json_lines, write_json
from fpa_verl.report.ledger import LEDGER_FILE, Cost, Spending, read_spending

RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
EVALUATIONS_FILE = "evaluations.jsonl"
BATCHES_FILE = "batches.jsonl"
BEST_MODEL = "best"
# `kind` in the run.json of `recipe=evaluate`; training runs have none.
EVALUATION_KIND = "evaluation"


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
        cost: the run's own up to this evaluation; the dataset's not included.
        problems: problem id to (right, sampled).
        unscored: samples that are in neither number.
    """

    step: int
    data_source: str
    cost: Cost
    problems: dict[str, tuple[int, int]]
    unscored: int = 0

    @property
    def device_seconds(self) -> float:
        return self.cost.device_seconds

    @property
    def accuracy(self) -> float:
        return pass_at_1(self.problems).mean

    @property
    def standard_error(self) -> float:
        return pass_at_1(self.problems).standard_error


@dataclass(frozen=True)
class Run:
    """A run directory, read.

    Attributes:
        label: the method's name where the user gave it one.
    """

    folder: Path
    info: dict[str, Any]
    points: list[Point]
    spending: Spending
    label: str | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def method(self) -> str:
        """What the run is compared as: the recipe, unless the user named it otherwise."""
        return self.label or self.recipe

    @property
    def phase_device_seconds(self) -> dict[str, float]:
        return self.spending.device_seconds

    @property
    def finished(self) -> bool:
        """Whether the run reached its last step, or stopped early."""
        return self.spending.finished

    @property
    def unscored(self) -> int:
        """Samples of all evaluations together that are in no accuracy."""
        return sum(point.unscored for point in self.points)

    @property
    def generates(self) -> bool:
        """Whether the run makes its own trajectories (online), and learns from no stored ones."""
        return self.info.get("dataset") is None

    @property
    def recipe(self) -> str:
        return str(self.info["recipe"])

    @property
    def training(self) -> dict[str, Any]:
        """What the run optimised and how: objective, hyper-parameters, learning rate, batch, selection."""
        return dict(self.info.get("training") or {})

    @property
    def data_cost(self) -> Cost:
        """What making the training data and its reference cache cost; nothing for a run that generates its own.

        Where it is not written down how many devices made a part, it is taken to be as many as the run held.
        """
        device_seconds = wall_seconds = 0.0
        for name in ("dataset", "reference"):
            part = self.info.get(name) or {}
            spent = float(part.get("device_seconds", 0.0))
            devices = (part.get("cost") or {}).get("devices", self.info["hardware"]["devices"])
            device_seconds += spent
            wall_seconds += spent / devices
        return Cost(device_seconds, wall_seconds)

    @property
    def dataset_device_seconds(self) -> float:
        return self.data_cost.device_seconds

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
    return read_spending(folder).finished


def stopped_early(folder: Path) -> bool:
    """Whether the run in `folder` ended because validation no longer improved."""
    return any(record.get("stopped_early") for record in read_json_lines(folder / LEDGER_FILE))


def record_evaluation(
    folder: Path,
    *,
    attempt: int,
    step: int,
    problems: Mapping[str, Mapping[str, Sequence[int]]],
    asked_for: Mapping[str, int] | None = None,
) -> None:
    """Append one evaluation.

    Args:
        folder: run directory.
        attempt: of the run, from 1.
        step: of the model.
        problems: data source to problem id to [right, sampled].
        asked_for: samples that were wanted, by data source; those that failed to generate or whose scorer
            failed are missing in `problems`. None: no more than are there.
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
            },
        )


def read_run(folder: Path, label: str | None = None) -> Run:
    """Read a run directory, finished or not."""
    file = folder / RUN_FILE
    if not file.exists():
        raise DatasetError(f"{folder} is no run directory ({RUN_FILE} is missing): give folders that a recipe wrote")
    info = json.loads(file.read_text(encoding="utf-8"))
    spending = read_spending(folder)
    points: dict[tuple[str, int], Point] = {}
    for record in read_json_lines(folder / EVALUATIONS_FILE):
        problems = {key: (right, sampled) for key, (right, sampled) in record["problems"].items()}
        step, source = record["step"], record["data_source"]
        # A resumed run evaluates the step it starts from once more: the first measurement stands.
        if (source, step) not in points:
            cost = spending.at(record["attempt"], step) if step else Cost()
            points[source, step] = Point(step, source, cost, problems, record.get("unscored", 0))
    return Run(folder, info, list(points.values()), spending, label)


def find_runs(given: Sequence[str | Path]) -> list[Run]:
    """Runs at the folders given or any number of levels below them, in order of name.

    A folder may be a pattern (`runs/*seed*`, `runs/**/fpa*`), and a pattern or folder may be given a name that its
    runs are compared under (`fpa=runs/*fpa*`). Files among the matches are passed over, and so is what
    `recipe=evaluate` left: it trained nothing.

    Raises:
        DatasetError: nothing is where one of them points.
    """
    labels: dict[Path, str | None] = {}
    for one in map(str, given):
        label, pattern = _named(one)
        matches = [Path(pattern)] if Path(pattern).exists() else sorted(map(Path, glob(pattern, recursive=True)))
        if not matches:
            raise DatasetError(f"no folder at {pattern}: give run directories, or a folder that holds some")
        for match in matches:
            for file in sorted(match.rglob(RUN_FILE)) if match.is_dir() else ():
                labels.setdefault(file.parent, label)
    runs = [read_run(folder, label) for folder, label in labels.items()]
    return [run for run in runs if run.info.get("kind") != EVALUATION_KIND]


def report_folder(given: Sequence[str | Path], runs: list[Run]) -> Path:
    """Where a report on the runs found at `given` goes: beside them."""
    if len(given) == 1 and Path(given[0]).is_dir():
        return Path(given[0]) / "report"
    return Path(os.path.commonpath([run.folder.absolute().parent for run in runs] or [Path.cwd()])) / "report"


def _named(given: str) -> tuple[str | None, str]:
    """`NAME=PATTERN` in its two parts; a folder that holds an equals sign, as hydra's multiruns do, has no name."""
    name, separator, pattern = given.partition("=")
    if separator and not Path(given).exists() and "/" not in name:
        return name, pattern
    return None, given
