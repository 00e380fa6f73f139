"""`--compare objectives`: accuracy of every recipe (the paper's Tables 1, 2 and 5), chosen on validation problems."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.report.comparison import Comparison, finished, is_validation, problem_sets, require_comparable
from fpa_verl.report.runs import Point, Run
from fpa_verl.report.tables import Table, mean_and_spread, percent


@dataclass(frozen=True)
class Configuration:
    """A recipe at certain settings; its runs differ in the seed alone."""

    recipe: str
    settings: dict[str, Any]
    runs: list[Run]

    def accuracies(self, data_source: str, *, best: bool = False) -> list[float]:
        """Accuracy of each run at its last evaluation, or at the one that validation chooses."""
        return [_at(run, self.step_of(run, best=best), data_source).accuracy for run in self.runs]

    def mean_accuracies(self, data_sources: list[str], *, best: bool = False) -> list[float]:
        """Their mean over some problem sets, for each run."""
        by_source = [self.accuracies(source, best=best) for source in data_sources]
        return [mean(values) for values in zip(*by_source, strict=True)]

    def validation(self, *, best: bool = False) -> float | None:
        """Mean accuracy on the validation problems over the runs; None where they were not evaluated."""
        if not validation_sources(self.runs[0]):
            return None
        return mean(validation_accuracy(run, self.step_of(run, best=best)) for run in self.runs)

    def step_of(self, run: Run, *, best: bool) -> int:
        """The last step evaluated, or the one that validation chooses where there is one."""
        return best_step(run) if best and validation_sources(run) else evaluated_steps(run)[-1]


def evaluated_steps(run: Run) -> list[int]:
    """The steps at which a run was evaluated, in order.

    Raises:
        DatasetError: it was not evaluated yet.
    """
    steps = sorted({point.step for point in run.points})
    if not steps:
        raise DatasetError(f"{run.folder} has no evaluation yet: wait for one, or leave the run out")
    return steps


def validation_accuracy(run: Run, step: int) -> float:
    """Mean over the problem sets of held-out training problems."""
    return mean(_at(run, step, source).accuracy for source in validation_sources(run))


def best_step(run: Run) -> int:
    """The step of the highest validation accuracy, the earliest of equals.

    Only steps at which every validation set was evaluated count; where there is none, the last step.
    """
    sources = validation_sources(run)
    measured = {
        step: validation_accuracy(run, step)
        for step in evaluated_steps(run)
        if all(any(point.step == step for point in run.of_source(source)) for source in sources)
    }
    finite = {step: value for step, value in measured.items() if math.isfinite(value)}
    return max(finite, key=lambda step: finite[step]) if finite else evaluated_steps(run)[-1]


def _at(run: Run, step: int, data_source: str) -> Point:
    for point in run.of_source(data_source):
        if point.step == step:
            return point
    raise DatasetError(f"{run.folder} has no evaluation on {data_source} at step {step}: leave the run out")


def validation_sources(run: Run) -> list[str]:
    """The run's problem sets of held-out training problems."""
    return [source for source in run.info["evaluation"]["problem_sets"] if is_validation(source)]


def configurations(runs: list[Run]) -> list[Configuration]:
    """Runs grouped by recipe and settings."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        key = run.recipe, json.dumps(_settings(run), sort_keys=True)
        groups.setdefault(key, []).append(run)
    return [Configuration(recipe, _settings(members[0]), members) for (recipe, _), members in groups.items()]


def _settings(run: Run) -> dict[str, Any]:
    """Training settings and the dataset: runs that differ in any of it are no seeds of one another."""
    return {**run.training, "dataset": (run.info.get("dataset") or {}).get("fingerprint")}


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        found.update(flat(value, f"{key}.") if isinstance(value, dict) else {key: value})
    return found


def varied(group: list[Configuration]) -> list[str]:
    """Names of the settings in which the configurations of a recipe differ."""
    settings = [flat(configuration.settings) for configuration in group]
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len({json.dumps(one.get(name)) for one in settings}) > 1]


@dataclass(frozen=True)
class Choice:
    """The configuration of a recipe that validation chose, among how many, by which settings."""

    chosen: Configuration
    candidates: int
    settings: dict[str, Any]


def choose(group: list[Configuration]) -> Choice:
    """The configuration of highest validation accuracy.

    Raises:
        DatasetError: there are several, and no validation accuracy to choose by.
    """
    if len(group) > 1 and any(configuration.validation() is None for configuration in group):
        raise DatasetError(
            f"{group[0].recipe} was run with several settings ({', '.join(varied(group))}), and without an evaluation "
            "on validation problems to choose by: report one of them alone"
        )
    chosen = max(group, key=lambda configuration: configuration.validation() or 0.0)
    settings = flat(chosen.settings)
    return Choice(chosen, len(group), {name: settings.get(name) for name in varied(group)})


@dataclass(frozen=True)
class Objectives(Comparison):
    """One choice a recipe, the best first."""

    choices: list[Choice]
    sources: list[str]
    left_out: list[str]

    name = "objectives"

    def tables(self) -> list[Table]:
        tables = [self.accuracy_table()]
        if any(choice.candidates > 1 for choice in self.choices):
            tables.append(self.choice_table())
        return tables

    def accuracy_table(self) -> Table:
        several = len(self.sources) > 1
        has_validation = any(choice.chosen.validation() is not None for choice in self.choices)
        header = ["recipe", "seeds", *self.sources, *(["mean"] if several else [])]
        header += ["best val.", "validation"] if has_validation else []
        rows = []
        for choice in self.choices:
            one = choice.chosen
            cells = [mean_and_spread(one.accuracies(source)) for source in self.sources]
            if several:
                cells = [cell.split(" ")[0] for cell in cells] + [mean_and_spread(one.mean_accuracies(self.sources))]
            if has_validation:
                validation = one.validation()
                cells.append(mean_and_spread(one.mean_accuracies(self.sources, best=True)))
                cells.append("-" if validation is None else percent(validation))
            rows.append([one.recipe, str(len(one.runs)), *cells])
        return Table("Accuracy (%): mean over seeds ± standard deviation, at the last step", header, rows)

    def choice_table(self) -> Table:
        rows = [
            [
                choice.chosen.recipe,
                str(choice.candidates),
                ", ".join(f"{name}={value}" for name, value in choice.settings.items()) or "-",
            ]
            for choice in self.choices
        ]
        return Table("Settings chosen by the accuracy on validation problems", ["recipe", "tried", "chosen"], rows)

    def notes(self) -> list[str]:
        notes = list(self.left_out)
        if any(choice.chosen.validation() is not None for choice in self.choices):
            notes.append("best val.: at the step of the highest accuracy on the validation problems")
        if single := [choice.chosen.recipe for choice in self.choices if len(choice.chosen.runs) == 1]:
            notes.append(f"One seed only, so no spread: {', '.join(single)}")
        return notes

    def as_json(self) -> dict[str, Any]:
        return {"compare": self.name, "recipes": [_choice_json(choice, self.sources) for choice in self.choices]}


def _choice_json(choice: Choice, sources: list[str]) -> dict[str, Any]:
    one = choice.chosen
    means = one.mean_accuracies(sources)
    return {
        "recipe": one.recipe,
        "settings": one.settings,
        "configurations_tried": choice.candidates,
        "validation_accuracy": one.validation(),
        "runs": [run.name for run in one.runs],
        "accuracy": {source: one.accuracies(source) for source in sources},
        "accuracy_at_best_validation": {source: one.accuracies(source, best=True) for source in sources},
        "mean": mean(means),
        "standard_deviation": stdev(means) if len(means) > 1 else None,
    }


def compare(runs: list[Run], data_source: str | None = None) -> Objectives:
    """One row a recipe: the settings chosen on validation problems, the accuracy on all others.

    Args:
        runs: of any number of recipes, settings and seeds.
        data_source: judge on this problem set alone.

    Raises:
        DatasetError: no run, a run without evaluations, or nothing to choose settings by.
        MismatchError: runs that cannot be compared.
    """
    runs, left_out = finished(runs)
    require_comparable(runs)
    sources = problem_sets(runs, data_source)
    groups: dict[str, list[Configuration]] = {}
    for configuration in configurations(runs):
        groups.setdefault(configuration.recipe, []).append(configuration)
    choices = [choose(group) for group in groups.values()]
    ordered = sorted(choices, key=lambda choice: mean(choice.chosen.mean_accuracies(sources)), reverse=True)
    return Objectives(ordered, sources, left_out)
