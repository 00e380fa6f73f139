"""`--compare wallclock`: accuracy against device-hours (the paper's Figure 6), offline data's cost in front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.report.ledger import PHASES
from fpa_verl.report.runs import Point, Run
from fpa_verl.rollouts.schema import VALIDATION_SUFFIX

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class CurvePoint:
    """One evaluation on the cost axis.

    Attributes:
        device_hours: generation of the dataset included, start-up and evaluation left out.
        accuracy, standard_error: fractions of 1.
    """

    step: int
    device_hours: float
    accuracy: float
    standard_error: float


@dataclass(frozen=True)
class Curve:
    """One run on the cost axis; `data_device_hours` is what its dataset had cost before it began."""

    run: str
    recipe: str
    points: list[CurvePoint]
    data_device_hours: float = 0.0

    @property
    def best(self) -> CurvePoint:
        return max(self.points, key=lambda point: point.accuracy)

    def device_hours_to(self, target: float) -> float | None:
        """Cost of the first evaluation at or above `target`; None where it was never reached.

        Evaluations are not interpolated: what lies between two of them was not measured.
        """
        return next((point.device_hours for point in self.points if point.accuracy >= target), None)


@dataclass(frozen=True)
class Comparison:
    """Everything the table, the figure and the JSON show."""

    data_source: str
    curves: list[Curve]
    runs: list[Run]
    targets: list[float]

    def as_json(self) -> dict[str, Any]:
        return {
            "compare": "wallclock",
            "data_source": self.data_source,
            "cost": "device-hours; dataset generation included, start-up and evaluation left out",
            "targets": self.targets,
            "runs": [_run_json(run, curve, self.targets) for run, curve in zip(self.runs, self.curves, strict=True)],
        }


def _run_json(run: Run, curve: Curve, targets: list[float]) -> dict[str, Any]:
    return {
        "run": run.name,
        "recipe": run.recipe,
        "fingerprints": run.info["fingerprints"],
        "evaluation": run.info["evaluation"],
        "dataset": run.info["dataset"],
        "hardware": run.info["hardware"],
        "versions": run.info["versions"],
        "device_seconds": {
            "dataset": run.dataset_device_seconds,
            **{phase: run.phase_device_seconds.get(phase, 0.0) for phase in PHASES},
        },
        "device_hours_to_target": {f"{target:.4f}": curve.device_hours_to(target) for target in targets},
        "curve": [vars(point) for point in curve.points],
    }


def require_comparable(runs: list[Run]) -> None:
    """Refuse runs that do not answer the same question, naming what differs.

    Raises:
        MismatchError: base model, tokenizer, template, scorer, evaluation set, its sampling, or the
            kind of device differ.
    """
    first = runs[0]
    for run in runs[1:]:
        for name, wanted in first.info["fingerprints"].items():
            found = run.info["fingerprints"].get(name)
            if found != wanted:
                raise _mismatch(first, run, "base model" if name == "model" else name, wanted, found)
        mine, other = first.info["evaluation"], run.info["evaluation"]
        for name in mine:
            if mine[name] != other.get(name):
                label = "evaluation set" if name == "problem_sets" else f"evaluation's {name}"
                raise _mismatch(first, run, label, mine[name], other.get(name))
        if first.info["hardware"]["device"] != run.info["hardware"]["device"]:
            raise _mismatch(
                first, run, "kind of device", first.info["hardware"]["device"], run.info["hardware"]["device"]
            )


def _mismatch(first: Run, run: Run, what: str, wanted: Any, found: Any) -> MismatchError:
    return MismatchError(
        f"{first.folder} and {run.folder} cannot stand side by side: their {what} differs ({wanted} and {found}). "
        "Report them apart, or run one of them again"
    )


def require_same_device_as_data(run: Run) -> None:
    """Device-seconds of different devices are never added up."""
    dataset = run.info.get("dataset") or {}
    made_on, trained_on = dataset.get("cost", {}).get("device"), run.info["hardware"]["device"]
    if made_on is not None and made_on != trained_on:
        raise MismatchError(
            f"{run.folder} trained on {trained_on} with data made on {made_on}: their device-hours cannot be added. "
            "Collect the data on the device that trains"
        )


def choose_data_source(runs: list[Run], wanted: str | None) -> str:
    """The problem set to compare on: the one asked for, or the first that is not validation."""
    sources = list(runs[0].info["evaluation"]["problem_sets"])
    if wanted is not None:
        if wanted not in sources:
            raise DatasetError(
                f"no evaluation on '{wanted}' in {runs[0].folder}: choose --on from {', '.join(sources)}"
            )
        return wanted
    return next((source for source in sources if not source.endswith(VALIDATION_SUFFIX)), sources[0])


def curve_of(run: Run, data_source: str) -> Curve:
    """Accuracy of one run against its cost, the dataset's in front."""

    def place(point: Point) -> CurvePoint:
        # Step 0 is the base model, which the dataset has not improved: it stands at no cost.
        paid = run.dataset_device_seconds + point.device_seconds if point.step else 0.0
        return CurvePoint(point.step, paid / SECONDS_PER_HOUR, point.accuracy, point.standard_error)

    points = [place(point) for point in run.of_source(data_source)]
    return Curve(run.name, run.recipe, points, run.dataset_device_seconds / SECONDS_PER_HOUR)


def default_targets(curves: list[Curve]) -> list[float]:
    """Three accuracies between the base model and the best that any run reached, in full per cents."""
    start = max(curve.points[0].accuracy for curve in curves)
    best = max(curve.best.accuracy for curve in curves)
    fractions = (0.5, 0.75, 0.9)
    return sorted({round(start + share * (best - start), 2) for share in fractions})


def compare(runs: list[Run], data_source: str | None = None, targets: list[float] | None = None) -> Comparison:
    """Line up runs on one cost axis.

    Raises:
        DatasetError: no run, or a run without evaluations.
        MismatchError: runs that cannot be compared.
    """
    if not runs:
        raise DatasetError("no runs: give run directories, or a folder that holds some")
    require_comparable(runs)
    for run in runs:
        require_same_device_as_data(run)
    source = choose_data_source(runs, data_source)
    curves = [curve_of(run, source) for run in runs]
    for run, curve in zip(runs, curves, strict=True):
        if not curve.points:
            raise DatasetError(f"{run.folder} has no evaluation on {source} yet: wait for one, or leave the run out")
    return Comparison(source, curves, runs, targets or default_targets(curves))
