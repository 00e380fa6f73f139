"""`--compare objectives`: accuracy of every recipe (the paper's Tables 1, 2 and 5), chosen on validation problems."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from fpa_verl.report.comparable import finished, notes_on, problem_sets, require_comparable
from fpa_verl.report.comparison import Comparison
from fpa_verl.report.statistics.arms import Arm, Choice, arms_of, choose, labels
from fpa_verl.report.statistics.base import base_notes
from fpa_verl.report.statistics.curves import SECONDS_PER_HOUR
from fpa_verl.runs.run import Run
from fpa_verl.runs.validation import validation_sources
from fpa_verl.tables import Table, mean_and_spread, percent, time_unit


@dataclass(frozen=True)
class Objectives(Comparison):
    """One choice a method, the best first."""

    runs: list[Run]
    choices: list[Choice]
    sources: list[str]
    left_out: list[str]

    name = "objectives"
    title = "Objectives"

    def tables(self) -> list[Table]:
        tables = [self.accuracy_table()]
        if any(choice.candidates > 1 for choice in self.choices):
            tables += [self.choice_table(), self.settings_table()]
        return tables

    def accuracy_table(self) -> Table:
        several = len(self.sources) > 1
        has_validation = any(choice.chosen.validation() is not None for choice in self.choices)
        header = ["recipe", "seeds", *self.sources, *(["mean"] if several else [])]
        header += ["best val.", "validation"] if has_validation else []
        unit = time_unit(max((_device_hours(choice.chosen) for choice in self.choices), default=0.0))
        header.append(f"device-{unit.sign}")
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
            cells.append(f"{_device_hours(one) * unit.an_hour:.2f}")
            rows.append([one.method, str(len(one.runs)), *cells])
        caption = "Accuracy (%): mean over seeds ± standard deviation, at the last step; what a run cost with its data"
        return Table(caption, header, rows)

    def choice_table(self) -> Table:
        rows = [
            [
                choice.chosen.method,
                str(choice.candidates),
                ", ".join(f"{name}={value}" for name, value in choice.settings.items()) or "-",
            ]
            for choice in self.choices
        ]
        return Table("Settings chosen by the accuracy on validation problems", ["recipe", "tried", "chosen"], rows)

    def settings_table(self) -> Table:
        """Every setting that was tried, and what a run of it cost, inputs included."""
        arms = arms_of(self.runs)
        unit = time_unit(max((_device_hours(one) for one in arms), default=0.0))
        rows = [
            [
                label,
                str(len(one.runs)),
                *(mean_and_spread(one.accuracies(source)) for source in self.sources),
                f"{_device_hours(one) * unit.an_hour:.2f}",
            ]
            for label, one in zip(labels(arms), arms, strict=True)
        ]
        header = ["setting", "seeds", *self.sources, f"device-{unit.word}"]
        return Table("Every setting: accuracy (%) at the last step, and what a run cost with its data", header, rows)

    def notes(self) -> list[str]:
        notes = list(self.left_out)
        if any(choice.chosen.validation() is not None for choice in self.choices):
            notes.append("best val.: at the step of the highest accuracy on the validation problems")
        if single := [choice.chosen.method for choice in self.choices if len(choice.chosen.runs) == 1]:
            notes.append(f"One seed only, so no spread: {', '.join(single)}")
        if any(self._chooses_the_base(choice.chosen) for choice in self.choices):
            notes += base_notes(self.runs, [*self.sources, *validation_sources(self.runs[0])])
        return [*notes, *notes_on(self.runs)]

    def _chooses_the_base(self, one: Arm) -> bool:
        return any(one.step_of(run, best=True) == 0 for run in one.runs)

    def as_json(self) -> dict[str, Any]:
        return {"compare": self.name, "recipes": [_choice_json(choice, self.sources) for choice in self.choices]}


def _device_hours(one: Arm) -> float:
    """What a run of it cost with its data, mean over the seeds."""
    spent = (run.spending.cost.device_seconds + run.inputs_cost.device_seconds for run in one.runs)
    return mean(spent) / SECONDS_PER_HOUR


def _choice_json(choice: Choice, sources: list[str]) -> dict[str, Any]:
    one = choice.chosen
    means = one.mean_accuracies(sources)
    return {
        "recipe": one.method,
        "settings": one.settings,
        "configurations_tried": choice.candidates,
        "validation_accuracy": one.validation(),
        "runs": [run.name for run in one.runs],
        "accuracy": {source: one.accuracies(source) for source in sources},
        "accuracy_at_best_validation": {source: one.accuracies(source, best=True) for source in sources},
        "mean": mean(means),
        "standard_deviation": stdev(means) if len(means) > 1 else None,
        "device_hours": _device_hours(one),
    }


def compare(runs: list[Run], data_source: str | None = None) -> Objectives:
    """One row a method: the settings chosen on validation problems, the accuracy on all others.

    Args:
        runs: those of any number of recipes, settings and seeds.
        data_source: judge on this problem set alone.

    Raises:
        DatasetError: no run, a run without evaluations, or nothing to choose settings by.
        MismatchError: runs that cannot be compared.
    """
    runs, left_out = finished(runs)
    require_comparable(runs)
    sources = problem_sets(runs, data_source)
    groups: dict[str, list[Arm]] = {}
    for arm in arms_of(runs):
        groups.setdefault(arm.method, []).append(arm)
    choices = [choose(group) for group in groups.values()]
    ordered = sorted(choices, key=lambda choice: mean(choice.chosen.mean_accuracies(sources)), reverse=True)
    return Objectives(runs, ordered, sources, left_out)
