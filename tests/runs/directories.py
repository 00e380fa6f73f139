"""Synthetic run directories with known answers."""

from __future__ import annotations

import copy

from fpa_verl.files import append_json_line
from fpa_verl.runs.record import open_run, record_evaluation

TRAINING = {"objective": "fpa", "hyper_parameters": {"lam": 2.0}, "learning_rate": 1e-6}
INFO = {
    "recipe": "fpa_offline",
    "fingerprints": {"model": "m", "tokenizer": "t", "template": "c", "scorer": "s"},
    "evaluation": {
        "problem_sets": {"toy/validation": "v", "toy": "e"},
        "temperature": 0.7,
        "samples": {"toy/validation": 2, "toy": 2},
    },
    "dataset": None,
    "hardware": {"devices": 2, "device": "H"},
    "versions": {},
    "training": TRAINING,
    "seed": 0,
}


def make_run(folder, accuracies, *, of=4, validation=None, seconds_a_step=900.0, finished=True, without=(), **changes):
    """A run on 2 devices; accuracy i (`of` so many problems) is measured after step i, step 0 before training.

    run.json holds `INFO` with `changes`, and not what is named in `without`.
    """
    info = {name: value for name, value in {**copy.deepcopy(INFO), **changes}.items() if name not in without}
    open_run(folder, info)
    append_json_line(folder / "ledger.jsonl", {"kind": "attempt", "time": 0, "attempt": 1, "devices": 2})
    for step, right in enumerate(accuracies):
        problems = {"toy": outcomes(right, of)}
        if validation is not None:
            problems["toy/validation"] = outcomes(validation[step])
        record_evaluation(folder, attempt=1, step=step, problems=problems)
        if step:
            seconds = {"training": seconds_a_step, "evaluation": 10_000.0}
            kind = "end" if finished and step == len(accuracies) - 1 else "step"
            append_json_line(
                folder / "ledger.jsonl", {"kind": kind, "time": 0, "attempt": 1, "step": step, "seconds": seconds}
            )
    return folder


def outcomes(right: int, of: int = 4) -> dict[str, list[int]]:
    """Of some problems sampled twice, the first `right` are right both times."""
    return {f"p{i}": [2 if i < right else 0, 2] for i in range(of)}


def settings(**changes):
    """A run's training settings with some of them changed; `lam` is among the hyper-parameters."""
    training = copy.deepcopy(TRAINING)
    if "lam" in changes:
        training["hyper_parameters"] = {"lam": changes.pop("lam")}
    return {**training, **changes}
