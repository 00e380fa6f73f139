"""A run, read: from its directory, or from the log that verl left of a run without the plugin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fpa_verl.commands import Command
from fpa_verl.errors import DatasetError
from fpa_verl.evaluation import pass_at_1
from fpa_verl.files import read_json_lines
from fpa_verl.runs.inputs import DATASET, RUN, Input, everything_owed, read_inputs, root_of
from fpa_verl.runs.ledger import Cost, Spending, add_up, read_ledger
from fpa_verl.runs.ledger_gaps import missing_from_ledger
from fpa_verl.runs.metrics import Metrics, by_metric, one_after_another, read_metrics
from fpa_verl.runs.names import EVALUATION_KIND, EVALUATIONS_FILE, LEDGER_FILE, REPORTED_FILES, ROUNDS_FILE, RUN_FILE
from fpa_verl.runs.verl_logs import VerlLog, read_log
from fpa_verl.runs.verl_metrics import (
    accuracies,
    caveats,
    ledger_records,
    missing_steps,
    require_own_trajectories,
    why_no_accuracy,
)

UNKNOWN_DEVICE = "unknown device"


@dataclass(frozen=True)
class Point:
    """One evaluation of one problem set.

    Attributes:
        cost: the run's own up to this evaluation; the dataset's not included.
        problems: problem id to (right, sampled).
        unscored: samples that are in neither number.
        logged_mean: the accuracy in verl's log, where outcomes of single problems are not at hand; else None.
        pooled: accuracies of the evaluations that a report has put together in this one; empty for a single one.
        measured_in: folder of the evaluation that it was taken from; empty for one that the run made itself.
    """

    step: int
    data_source: str
    cost: Cost
    problems: dict[str, tuple[int, int]]
    unscored: int = 0
    logged_mean: float | None = None
    pooled: tuple[float, ...] = ()
    measured_in: str = ""

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
        missing_cost: what its ledger lacks, in words; empty where the cost of every step is known.
        chosen_step: that it took for its best, where step 0 is no longer what it measured there itself.
        rounds: of a run in rounds, the runs that it is put together from; empty for any other.
    """

    folder: Path
    info: dict[str, Any]
    points: list[Point]
    spending: Spending
    label: str | None = None
    log: VerlLog | None = None
    missing_cost: str = ""
    chosen_step: int | None = None
    rounds: tuple[Run, ...] = ()

    @property
    def name(self) -> str:
        if self.log:
            return self.log.name
        in_rounds = (self.folder.parent / ROUNDS_FILE).exists()
        return f"{self.folder.parent.name}/{self.folder.name}" if in_rounds else self.folder.name

    @property
    def command(self) -> Command | None:
        """What was typed; None where that was not written down."""
        try:
            return Command.read(self.info["command"])
        except (KeyError, AttributeError, TypeError, ValueError):
            return None

    @property
    def files(self) -> list[Path]:
        """What reports read of it."""
        if self.log:
            return self.log.files
        if self.rounds:
            return [self.folder / ROUNDS_FILE, *(file for one in self.rounds for file in one.files)]
        return [file for pattern in REPORTED_FILES for file in sorted(self.folder.glob(pattern))]

    @property
    def missing_steps(self) -> list[int]:
        """Steps whose cost is not in the log."""
        return missing_steps(self.log) if self.log else []

    @property
    def has_whole_cost(self) -> bool:
        return not self.missing_steps and not self.missing_cost

    @property
    def why_no_accuracy(self) -> str:
        """In words, why a log has no evaluation that can be shown; empty for a run directory, which says it itself."""
        return why_no_accuracy(self.log) if self.log and not self.points else ""

    @property
    def caveats(self) -> list[str]:
        """What a reader must know of where the numbers come from."""
        if self.log:
            return [f"{self.name}: {caveat}" for caveat in caveats(self.log)]
        return [f"{self.name}: {self.missing_cost}: its cost is not known"] if self.missing_cost else []

    @property
    def metrics(self) -> Metrics:
        if self.log:
            return by_metric((record.step, record.metrics) for record in self.log.records)
        if self.rounds:
            return one_after_another([(one.metrics, one.spending.last_step) for one in self.rounds])
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

    @cached_property
    def inputs(self) -> list[Input]:
        """What was made before the run and that it needs."""
        return read_inputs(self.info)

    @property
    def dataset(self) -> Input | None:
        """The stored trajectories that the run learns from; None for one that generates its own."""
        return next((one for one in self.inputs if one.kind == DATASET), None)

    @property
    def earlier(self) -> Input | None:
        """The run that trained the model which this one goes on from; None where that is the base model."""
        return next((one for one in self.inputs if one.kind == RUN), None)

    @property
    def base_model(self) -> str | None:
        """Fingerprint of the model at the root of its lineage; None for a log."""
        return root_of(self.info["fingerprints"].get("model"), self.earlier)

    @property
    def generates(self) -> bool:
        """Whether the run makes its own trajectories (online), and learns from no stored ones."""
        return self.dataset is None

    @property
    def only_evaluates(self) -> bool:
        """Whether it is what `recipe=evaluate` left, which trained nothing."""
        return bool(self.info.get("kind") == EVALUATION_KIND)

    @property
    def model_path(self) -> str | None:
        """Folder or hub name of the model that it began with; None for a log, and where that was not recorded."""
        return self.info.get("model")

    @property
    def recipe(self) -> str:
        return str(self.info["recipe"])

    @property
    def training(self) -> dict[str, Any]:
        """What the run optimised and how: objective, hyper-parameters, learning rate, batch, selection."""
        return dict(self.info.get("training") or {})

    @property
    def trains_adapter(self) -> bool:
        """Whether it trained an adapter (LoRA), and no other weight."""
        return "lora_rank" in self.training

    @property
    def forward_passes(self) -> int | None:
        """How many its training steps have beside forward and backward; None where it did not write that down."""
        return self.info.get("forward_passes", 0 if self.generates else None)

    @property
    def inputs_cost(self) -> Cost:
        """What making all inputs cost, an earlier run's training with them; nothing for a run that has none.

        Where it is not written down how many devices made one, it is taken to be as many as the run held.
        """
        return self._paid(everything_owed(self.inputs))

    @property
    def data_cost(self) -> Cost:
        """Of `inputs_cost` what other runs could share: datasets and caches, those of an earlier run with them."""
        return self._paid(one for one in everything_owed(self.inputs) if one.kind != RUN)

    @property
    def start_cost(self) -> Cost:
        """What the model that it began with cost: an earlier run and all that it owed; nothing for a base model."""
        return self._paid(everything_owed([self.earlier] if self.earlier else []))

    def _paid(self, inputs: Iterable[Input]) -> Cost:
        paid = [one.paid(self.info["hardware"]["devices"]) for one in inputs]
        return Cost(sum((one.device_seconds for one in paid), 0.0), sum((one.wall_seconds for one in paid), 0.0))

    @property
    def dataset_device_seconds(self) -> float:
        return self.data_cost.device_seconds

    @property
    def data_cost_is_known(self) -> bool:
        """False for imported text, for one: somebody paid for it, but nobody wrote down how much."""
        return all(one.cost_is_known for one in everything_owed(self.inputs))

    def of_source(self, data_source: str) -> list[Point]:
        return sorted((p for p in self.points if p.data_source == data_source), key=lambda p: p.step)


def command_beside(runs: Iterable[Run]) -> Command:
    """A command on the task, model and machine of these runs, to be made one of another recipe."""
    return next((run.command for run in runs if run.command is not None), Command())


def read_info(file: Path) -> dict[str, Any]:
    """What run.json holds; where it has one number of samples for all problem sets, that of each.

    Raises:
        DatasetError: it is none.
    """
    try:
        info: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        evaluation = info["evaluation"]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{file} is damaged: restore it, or leave that run out") from error
    if isinstance(evaluation.get("samples"), int):
        evaluation["samples"] = dict.fromkeys(evaluation["problem_sets"], evaluation["samples"])
    return info


def read_run(folder: Path, label: str | None = None) -> Run:
    """Read a run directory, finished or not."""
    file = folder / RUN_FILE
    if not file.exists():
        raise DatasetError(f"{folder} is no run directory ({RUN_FILE} is missing): give folders that a recipe wrote")
    info = read_info(file)
    ledger, evaluations = read_ledger(folder), read_json_lines(folder / EVALUATIONS_FILE)
    missing = missing_from_ledger(ledger, [(record["attempt"], record["step"]) for record in evaluations])
    spending = add_up(ledger)
    points: dict[tuple[str, int], Point] = {}
    for record in evaluations:
        problems = {key: (right, sampled) for key, (right, sampled) in record["problems"].items()}
        step, source = record["step"], record["data_source"]
        # A resumed run evaluates the step it goes on from once more: the first measurement stands. A step that it
        # trained again is another model.
        if (source, step) not in points or record.get("trained"):
            cost = spending.at(record["attempt"], step) if step else Cost()
            points[source, step] = Point(
                step, source, cost, problems, record.get("unscored", 0), measured_in=record.get("measured_in", "")
            )
    if missing:
        missing = f"{LEDGER_FILE} {missing if (folder / LEDGER_FILE).exists() else 'is missing'}"
    return Run(folder, info, list(points.values()), spending, label, missing_cost=missing)


def read_logged_run(files: Sequence[Path], label: str | None = None, device: str | None = None) -> Run:
    """Read the log that verl left of a run without the plugin, as far as it goes.

    Args:
        files: of one run, as `verl_logs.whole_runs` gives them.
        label: name to compare the run under. None: the first one's path, for no log says which are seeds of one method.
        device: what it ran on, where the log does not say.
    """
    log = read_log(*files)
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
        "inputs": [],
        "hardware": {"devices": max(spending.devices, default=0), "device": log.device or device or UNKNOWN_DEVICE},
        "versions": {},
    }
    return Run(files[0], info, list(points.values()), spending, label or str(files[0]), log)
