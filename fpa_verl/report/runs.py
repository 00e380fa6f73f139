"""A run directory: what the trainer writes into it and what the report reads back.

run.json            what the run is (fingerprints, dataset and its cost, hardware, versions)
config.yaml         the resolved configuration
ledger.jsonl        where the time went (`fpa_verl.report.ledger`)
evaluations.jsonl   accuracy by step and problem set, with the outcome of every problem
metrics.N.jsonl     metrics of every step of attempt N, as verl logs them
batches.jsonl       rows of the rollout dataset that each step of an offline run trained on
tokens.N.jsonl      log-probs of a few trajectories, token by token, as worker N trained on them (`report.tokens`)
samples/            the answers of `recipe=evaluate`; of a run that trains in a folder for each attempt and step
checkpoints/        verl's checkpoints
best/               the model of the highest validation accuracy, in Hugging Face format

A run of verl without the plugin left no such directory: what its log says of the same is read by `read_logged_run`.
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
from fpa_verl.report.ledger import LEDGER_FILE, Cost, Spending, add_up, read_spending
from fpa_verl.report.metrics import Metrics, by_metric, read_metrics
from fpa_verl.report.verl_logs import VerlLog, find_logs, read_log
from fpa_verl.report.verl_metrics import (
    accuracies,
    caveats,
    ledger_records,
    missing_steps,
    require_own_trajectories,
)

RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
EVALUATIONS_FILE = "evaluations.jsonl"
BATCHES_FILE = "batches.jsonl"
BEST_MODEL = "best"
# What reports read of a run directory; metrics are one file an attempt.
REPORTED_FILES = (RUN_FILE, CONFIG_FILE, LEDGER_FILE, EVALUATIONS_FILE, "metrics.*.jsonl", "tokens.*.jsonl")
UNKNOWN_DEVICE = "unknown device"
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
        logged_mean: the accuracy in verl's log, where outcomes of single problems are not at hand; else None.
    """

    step: int
    data_source: str
    cost: Cost
    problems: dict[str, tuple[int, int]]
    unscored: int = 0
    logged_mean: float | None = None

    @property
    def device_seconds(self) -> float:
        return self.cost.device_seconds

    @property
    def accuracy(self) -> float:
        return pass_at_1(self.problems).mean if self.logged_mean is None else self.logged_mean

    @property
    def standard_error(self) -> float:
        """Over the problems; NaN where their outcomes are not at hand."""
        return pass_at_1(self.problems).standard_error


@dataclass(frozen=True)
class Run:
    """A run directory, read, or the log of a run that has none.

    Attributes:
        folder: the run directory; of a logged run where its log is.
        label: the method's name where the user gave it one.
        log: None for a run directory.
    """

    folder: Path
    info: dict[str, Any]
    points: list[Point]
    spending: Spending
    label: str | None = None
    log: VerlLog | None = None

    @property
    def name(self) -> str:
        return self.log.name if self.log else self.folder.name

    @property
    def files(self) -> list[Path]:
        """What reports read of it."""
        if self.log:
            return self.log.files
        return [file for pattern in REPORTED_FILES for file in sorted(self.folder.glob(pattern))]

    @property
    def missing_steps(self) -> list[int]:
        """Steps whose cost is in no file."""
        return missing_steps(self.log) if self.log else []

    @property
    def caveats(self) -> list[str]:
        """What a reader must know of where the numbers come from."""
        return [f"{self.name}: {caveat}" for caveat in caveats(self.log)] if self.log else []

    @property
    def metrics(self) -> Metrics:
        if self.log:
            return by_metric((record.step, record.metrics) for record in self.log.records)
        return read_metrics(self.folder)

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
            if part := self.info.get(name):
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


def _read_info(file: Path) -> dict[str, Any]:
    """What run.json holds; where it has one number of samples for all problem sets, that of each."""
    info: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    evaluation = info["evaluation"]
    if isinstance(evaluation.get("samples"), int):
        evaluation["samples"] = dict.fromkeys(evaluation["problem_sets"], evaluation["samples"])
    return info


def answers_of_step(attempt: int, step: int) -> str:
    """Folder within samples/ of what a training run answered: a step that was trained again is another model."""
    return f"attempt_{attempt}/step_{step}"


def open_run(folder: Path, info: dict[str, Any]) -> None:
    """Begin an attempt: write run.json, or check that the one there describes this very run.

    Raises:
        MismatchError: the folder holds a run of another recipe, model, data or evaluation.
    """
    file = folder / RUN_FILE
    if file.exists():
        before = _identity(_read_info(file))
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
    trained: bool = False,
) -> None:
    """Append one evaluation.

    Args:
        folder: run directory.
        attempt: of the run, from 1.
        step: of the model.
        problems: data source to problem id to [right, sampled].
        asked_for: samples that were wanted, by data source; those that failed to generate or whose scorer
            failed are missing in `problems`. None: no more than are there.
        trained: whether this attempt trained that step, and does not go on from it.
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
            },
        )


def read_run(folder: Path, label: str | None = None) -> Run:
    """Read a run directory, finished or not."""
    file = folder / RUN_FILE
    if not file.exists():
        raise DatasetError(f"{folder} is no run directory ({RUN_FILE} is missing): give folders that a recipe wrote")
    info = _read_info(file)
    spending = read_spending(folder)
    points: dict[tuple[str, int], Point] = {}
    for record in read_json_lines(folder / EVALUATIONS_FILE):
        problems = {key: (right, sampled) for key, (right, sampled) in record["problems"].items()}
        step, source = record["step"], record["data_source"]
        # A resumed run evaluates the step it goes on from once more: the first measurement stands. A step that it
        # trained again is another model.
        if (source, step) not in points or record.get("trained"):
            cost = spending.at(record["attempt"], step) if step else Cost()
            points[source, step] = Point(step, source, cost, problems, record.get("unscored", 0))
    return Run(folder, info, list(points.values()), spending, label)


def read_logged_run(path: Path, label: str | None = None, device: str | None = None) -> Run:
    """Read the log that verl left of a run without the plugin, as far as it goes.

    Args:
        path: as `find_logs` gives it.
        label: name to compare the run under. None: its path, for no log says which runs are seeds of one method.
        device: on which it ran, where the log does not say.
    """
    log = read_log(path)
    require_own_trajectories(log)
    spending = add_up(ledger_records(log))
    found = accuracies(log)
    points: dict[tuple[str, int], Point] = {}
    for mean in found:
        step = mean.record.step
        cost = spending.at(mean.record.attempt, step) if step else Cost()
        points.setdefault((mean.data_source, step), Point(step, mean.data_source, cost, {}, logged_mean=mean.value))
    info = {
        "recipe": "verl",
        "fingerprints": {},
        "evaluation": {
            "problem_sets": dict.fromkeys(mean.data_source for mean in found),
            "samples": {mean.data_source: mean.samples for mean in found},
        },
        "dataset": None,
        "hardware": {"devices": max(spending.devices, default=0), "device": log.device or device or UNKNOWN_DEVICE},
        "versions": {},
    }
    return Run(path, info, list(points.values()), spending, label or str(path), log)


def find_runs(given: Sequence[str | Path], device: str | None = None, *, with_evaluations: bool = False) -> list[Run]:
    """Runs at the folders given or any number of levels below them, in order of name.

    A folder may be a pattern (`runs/*seed*`, `runs/**/fpa*`), and a pattern or folder may be given a name that its
    runs are compared under (`fpa=runs/*fpa*`). A log of verl stands for a run that has no directory: one that is given
    or matched, and those in a folder without run directories. Other files among the matches are passed over, and so is
    what `recipe=evaluate` left, which trained nothing.

    Args:
        given: folders, logs, patterns.
        device: on which logged runs ran whose logs do not say.
        with_evaluations: keep what `recipe=evaluate` left.

    Raises:
        DatasetError: nothing is where one of them points, or a log cannot be read.
    """
    labels: dict[Path, str | None] = {}
    logs: dict[Path, tuple[Path, str | None]] = {}
    for one in map(str, given):
        label, pattern = _named(one)
        is_pattern = not Path(pattern).exists()
        matches = sorted(map(Path, glob(pattern, recursive=True))) if is_pattern else [Path(pattern)]
        if not matches:
            raise DatasetError(f"no folder at {pattern}: give run directories, or a folder that holds some")
        for match in matches:
            folders = [file.parent for file in sorted(match.rglob(RUN_FILE))] if match.is_dir() else []
            for folder in folders:
                labels.setdefault(folder, label)
            # What a run directory holds is read with it.
            if not folders and not (is_pattern and _is_in_a_run(match)):
                for log in find_logs(match):
                    # Wandb links the latest run to a second place.
                    logs.setdefault(log.resolve(), (log, label))
    runs = [read_run(folder, label) for folder, label in labels.items()]
    runs = [run for run in runs if with_evaluations or run.info.get("kind") != EVALUATION_KIND]
    return runs + [read_logged_run(log, label, device) for log, label in logs.values()]


def _is_in_a_run(path: Path) -> bool:
    return any((folder / RUN_FILE).exists() for folder in path.parents)


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
