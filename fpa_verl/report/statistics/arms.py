"""Which runs repeat one another: those of one arm, a method at certain settings, differ in the seed alone.

Of several arms of a method validation chooses one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.runs.run import Run
from fpa_verl.runs.validation import best_step, evaluated_steps, point_at, validation_accuracy, validation_sources


@dataclass(frozen=True)
class Arm:
    """A method at certain settings; its runs differ in the seed alone."""

    method: str
    settings: dict[str, Any]
    runs: list[Run]

    def accuracies(self, data_source: str, *, best: bool = False) -> list[float]:
        """Accuracy of each run at its last evaluation, or at the one that validation chooses."""
        return [point_at(run, self.step_of(run, best=best), data_source).accuracy for run in self.runs]

    def mean_accuracies(self, data_sources: list[str], *, best: bool = False) -> list[float]:
        """Their mean over some problem sets, for each run."""
        by_source = [self.accuracies(source, best=best) for source in data_sources]
        return [mean(values) for values in zip(*by_source, strict=True)]

    def validation(self) -> float | None:
        """Mean accuracy on the validation problems over the runs; None where they were not evaluated."""
        if not validation_sources(self.runs[0]):
            return None
        return mean(validation_accuracy(run, evaluated_steps(run)[-1]) for run in self.runs)

    def step_of(self, run: Run, *, best: bool) -> int:
        """The last step evaluated, or the one that validation chooses where there is one."""
        return best_step(run) if best and validation_sources(run) else evaluated_steps(run)[-1]


def finds_lambda(training: Mapping[str, Any]) -> bool:
    """Whether runs of these settings found their lambda on the way: none of a sweep, nor of the paper."""
    return isinstance((training.get("hyper_parameters") or {}).get("lam"), str)


def arms_of(runs: list[Run]) -> list[Arm]:
    """Runs grouped by method and settings, in the order in which they were given."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        key = run.method, json.dumps(_settings(run), sort_keys=True)
        groups.setdefault(key, []).append(run)
    return [Arm(method, _settings(members[0]), members) for (method, _), members in groups.items()]


def one_a_seed(arm: Arm) -> Arm:
    """Runs of the same seed see the same batches, and are no draws by themselves: the first one counts."""
    first: dict[Any, Run] = {}
    for run in arm.runs:
        # Of a run whose seed nobody wrote down it is not known that it repeats another.
        seed = run.info.get("seed")
        first.setdefault(str(run.folder) if seed is None else seed, run)
    return replace(arm, runs=list(first.values()))


def _settings(run: Run) -> dict[str, Any]:
    """Training settings, how dataset and ancestor came about: runs that differ in it are no seeds of one another."""
    earlier = {"from": run.earlier.alike} if run.earlier else {}
    return {**run.training, "dataset": run.dataset.alike if run.dataset else None, **earlier}


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        found.update(flat(value, f"{key}.") if isinstance(value, dict) and value else {key: value})
    return found


def varied(group: list[Arm]) -> list[str]:
    """Names of the settings in which the arms of a method differ."""
    settings = [flat(arm.settings) for arm in group]
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len(_values(settings, name)) > 1]


def _values(settings: list[dict[str, Any]], name: str) -> list[str]:
    """The values of a setting, each once; one that is not there is another than null."""
    return list(dict.fromkeys(json.dumps(one[name], sort_keys=True) if name in one else "unset" for one in settings))


# What tells arms apart and is no training setting.
_IN_WORDS = {"dataset": "the dataset", "from": "the run that it goes on from"}


def apart(group: list[Arm]) -> str:
    """What the arms differ in, with the values."""
    settings = [flat(arm.settings) for arm in group]
    found = [f"{_IN_WORDS.get(name, name)} {' or '.join(_values(settings, name))}" for name in varied(group)]
    methods = list(dict.fromkeys(arm.method for arm in group))
    return ", ".join([*found, *([f"the name {' or '.join(methods)}"] if len(methods) > 1 else [])])


def labels(everything: list[Arm]) -> list[str]:
    """A name for each: the method, and where it was run with several settings, those in which they differ."""

    def label(one: Arm) -> str:
        same_method = [other for other in everything if other.method == one.method]
        if len(same_method) > 1 and not one.runs[0].training:
            return f"{one.method} (settings not recorded)"
        settings = flat(one.settings)
        differing = varied([other for other in same_method if other.runs[0].training])
        return " ".join(
            [one.method, *(f"{name.split('.')[-1]}={settings[name]}" for name in differing if name in settings)]
        )

    return [label(one) for one in everything]


@dataclass(frozen=True)
class Choice:
    """The arm of a method that validation chose, among how many, by which settings."""

    chosen: Arm
    candidates: int
    settings: dict[str, Any]


def choose(group: list[Arm]) -> Choice:
    """The arm of highest validation accuracy.

    Raises:
        DatasetError: there are several, and no validation accuracy to choose by.
    """
    if len(group) == 1:
        return Choice(group[0], 1, {})
    if any(arm.validation() is None for arm in group):
        raise DatasetError(
            f"{group[0].method} was run with several settings ({apart(group)}), and without an evaluation "
            "on validation problems to choose by: report one of them alone"
        )
    chosen = max(group, key=lambda arm: arm.validation() or 0.0)
    settings = flat(chosen.settings)
    return Choice(chosen, len(group), {name: settings.get(name) for name in varied(group)})
