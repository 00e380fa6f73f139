"""What the colour of a token may show: the sampling policy, and what each run noted while it trained."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from fpa_verl.report.configurations import configurations
from fpa_verl.report.runs import Run
from fpa_verl.report.tokens import TokenLogProbs, read_token_log_probs

# Runs beyond these would make the page too large: 24,000 tokens times five views take about 0.5 MB a run.
RUNS = 8
SAMPLING = "sampling"


@dataclass(frozen=True)
class View:
    """One choice: log-probs under `key`, or what they are above those under `against`."""

    label: str
    key: str
    against: str = ""


@dataclass
class Views:
    """All choices, and the numbers behind them.

    Attributes:
        groups: choices under a heading, the run's name.
        left_out: runs that noted tokens as well and are not shown.
        values: of each row of the dataset, by key, the step and the log-probs in thousandths.
    """

    groups: dict[str, list[View]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    values: dict[int, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, row: int, key: str, log_probs: list[float], step: int | None = None) -> None:
        thousandths = [round(1000 * value) if math.isfinite(value) else None for value in log_probs]
        self.values[row][key] = {"step": step, "log_probs": thousandths}

    def as_json(self, row: int) -> str:
        """The values of a row."""
        return json.dumps(self.values.get(row, {}), separators=(",", ":"))

    def has(self, key: str) -> bool:
        return any(key in of_row for of_row in self.values.values())


def read_views(runs: list[Run], sampling: dict[int, list[float] | None]) -> Views:
    """The views on some trajectories.

    Args:
        runs: that learned from the dataset.
        sampling: log-probs of the policy that sampled them, by row; None where not recorded.
    """
    views = Views()
    for row, log_probs in sampling.items():
        if log_probs is not None:
            views.add(row, SAMPLING, log_probs)
    views.groups[""] = [View("sampling policy", SAMPLING)]
    noted = {
        run.folder: {row: found for row, found in read_token_log_probs(run.folder).items() if row in sampling}
        for run in runs
    }
    having = [run for run in _one_of_each_first(runs) if noted[run.folder]]
    for run in having[:RUNS]:
        for row, found in noted[run.folder].items():
            _add_reference(views, run, row, found)
    for number, run in enumerate(having[:RUNS]):
        for row, found in noted[run.folder].items():
            _add_run(views, number, row, found)
        views.groups[run.name] = _choices(views, run, number)
    views.left_out = [run.name for run in having[RUNS:]]
    return views


def _one_of_each_first(runs: list[Run]) -> list[Run]:
    """The first seed of every configuration, then the second, and so on."""
    by_seed = zip_longest(*(configuration.runs for configuration in configurations(runs)))
    return [run for seeds in by_seed for run in seeds if run is not None]


def _reference_key(run: Run) -> str:
    """The reference is the base model, which all runs share, but each scores it at its own temperature."""
    return f"reference at temperature {run.training.get('scoring_temperature', 1.0):g}"


def _add_reference(views: Views, run: Run, row: int, found: list[TokenLogProbs]) -> None:
    references = [one.reference for one in found if one.reference is not None]
    key = _reference_key(run)
    if references and key not in views.values[row]:
        views.add(row, key, references[-1])
        if key not in [view.key for view in views.groups[""]]:
            views.groups[""].append(View("reference", key))


def _add_run(views: Views, number: int, row: int, found: list[TokenLogProbs]) -> None:
    for time, one in (("first", found[0]), ("last", found[-1])):
        if time == "last" or len(found) > 1:
            for kind, log_probs in (("policy", one.policy), ("future", one.future)):
                if log_probs is not None:
                    views.add(row, f"{number}/{kind}/{time}", log_probs, one.step)


def _choices(views: Views, run: Run, number: int) -> list[View]:
    reference = _reference_key(run)
    choices = []
    for time in ("last", "first"):
        policy, future = f"{number}/policy/{time}", f"{number}/future/{time}"
        if views.has(policy) and views.has(reference):
            choices.append(View(f"change against the reference, {time} noted", policy, reference))
        choices += [
            View(f"{label}, {time} noted", key)
            for label, key in (("policy", policy), ("future policy", future))
            if views.has(key)
        ]
    return choices
