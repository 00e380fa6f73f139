"""What the shade of a token may show: the sampling policy, and what the runs noted while they trained."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from fpa_verl.report.statistics.arms import arms_of
from fpa_verl.runs.run import Run
from fpa_verl.runs.tokens import TokenLogProbs, read_token_log_probs

# More would make the page too large: 8 trajectories of 1,500 tokens take up to 0.3 MB a run.
RUNS = 8
SAMPLING = "sampling"
NO_REFERENCE = (
    "How far a run moved from the reference is not shown: none of them noted the reference. "
    "actor_rollout_ref.actor.policy_loss.track_reference=true holds it, for one forward a step more."
)


@dataclass(frozen=True)
class View:
    """One choice: log-probs under `key`, or by how much they are above those under `against`."""

    label: str
    key: str
    against: str = ""


@dataclass
class Views:
    """All choices, and the numbers behind them.

    Attributes:
        choices: the views, in the order in which they are offered.
        notes: what is not among them, and why.
        values: row of the dataset to key to the step and the log-probs in thousandths.
    """

    choices: list[View] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    values: dict[int, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, row: int, key: str, log_probs: list[float] | None, step: int | None = None) -> None:
        if log_probs is not None:
            thousandths = [round(1000 * value) if math.isfinite(value) else None for value in log_probs]
            self.values[row][key] = {"step": step, "log_probs": thousandths}

    def offer(self, label: str, key: str, against: str = "") -> None:
        """Add a choice if there are values for it."""
        keys = {known for of_row in self.values.values() for known in of_row}
        if {key, against or key} <= keys:
            self.choices.append(View(label, key, against))

    def as_json(self, row: int) -> str:
        """The values of a row."""
        return json.dumps(self.values.get(row, {}), separators=(",", ":"))


def read_views(runs: list[Run], sampling: dict[int, list[float] | None]) -> Views:
    """The views on some trajectories.

    Args:
        runs: that learned from the dataset.
        sampling: log-probs of the policy that sampled them, by row; None where not recorded.
    """
    views = Views()
    for row, log_probs in sampling.items():
        views.add(row, SAMPLING, log_probs)
    # Of a run in rounds the first one learned from the dataset.
    folders = [(run, run.rounds[0].folder if run.rounds else run.folder) for run in _first_seeds_first(runs)]
    found = [(run, read_token_log_probs(folder)) for run, folder in folders]
    noted = [(run, rows) for run, rows in found if rows.keys() & sampling.keys()]
    for number, (run, rows) in enumerate(noted[:RUNS]):
        for row in rows.keys() & sampling.keys():
            _add(views, row, rows[row], str(number), _reference_key(run))
    views.choices.append(View("sampling policy", SAMPLING))
    references = dict.fromkeys(_reference_key(run) for run, _ in noted[:RUNS])
    for key in references:
        views.offer("reference" if len(references) == 1 else key, key)
    for number, (run, _) in enumerate(noted[:RUNS]):
        _offer(views, run.name, str(number), _reference_key(run))
    if noted and not any(view.against for view in views.choices):
        views.notes.append(NO_REFERENCE)
    if noted[RUNS:]:
        views.notes.append(f"Not shown, for the page's size: {', '.join(run.name for run, _ in noted[RUNS:])}.")
    return views


def _first_seeds_first(runs: list[Run]) -> list[Run]:
    """The first seed of every arm, then the second, and so on."""
    by_seed = zip_longest(*(arm.runs for arm in arms_of(runs)))
    return [run for seeds in by_seed for run in seeds if run is not None]


def _reference_key(run: Run) -> str:
    """Runs share the reference, the model that sampled the dataset, so that one may have noted it for another.

    Not its temperature, nor one that was named (`reference.model`).
    """
    other = f" {run.training['reference_model']}" if "reference_model" in run.training else ""
    return f"reference{other}, scored at temperature {run.training.get('scoring_temperature', 1.0):g}"


def _add(views: Views, row: int, steps: list[TokenLogProbs], run: str, reference: str) -> None:
    for time, noted in (("first", steps[0]), ("last", steps[-1])):
        views.add(row, reference, noted.reference)
        if time == "last" or len(steps) > 1:
            views.add(row, f"{run}/policy/{time}", noted.policy, noted.step)
            views.add(row, f"{run}/future/{time}", noted.future, noted.step)


def _offer(views: Views, name: str, run: str, reference: str) -> None:
    for time in ("last", "first"):
        views.offer(f"{name}: change from the reference, {time} noted", f"{run}/policy/{time}", reference)
        views.offer(f"{name}: policy, {time} noted", f"{run}/policy/{time}")
        views.offer(f"{name}: future policy, {time} noted", f"{run}/future/{time}")
