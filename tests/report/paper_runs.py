"""Runs of the paper's models with known answers."""

from __future__ import annotations

import copy

from fpa_verl.evaluation.benchmarks import BENCHMARKS
from fpa_verl.files import append_json_line
from fpa_verl.report.comparisons import paper
from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.inputs import RUN, Input
from fpa_verl.runs.record import identity_of, open_run, record_evaluation
from fpa_verl.runs.run import read_info
from tests.runs import directories
from tests.runs.directories import INFO

QWEN3, QWEN2, LLAMA = "Qwen3-4B-Base", "Qwen2.5-Math-7B", "Llama-3.2-3B-Instruct"
OF_100 = 100
# Right answers of four problems, of 100 each; 74.5 %, and as FPA on MATH500 is published.
AS_PUBLISHED = [74, 75, 74, 75]
# One of the shares is another, so that problems differ.
EVERY_SET = {name: [40, 60, 50, 50] for name in BENCHMARKS}


# What the paper trained Qwen3-4B-Base with, as run.json has it.
AS_IN_THE_PAPER = {
    "learning_rate": 5e-6,
    "warmup_steps": 150,
    "batch_size": 64,
    "forward_kl_coef": 0.0,
    "scoring_temperature": 1.0,
    "selection": {"unit": "trajectory", "outcomes": "both"},
}


def settings(**changes):
    """A run's training settings, the paper's with some of them changed; `lam` is among the hyper-parameters."""
    return directories.settings(**{**copy.deepcopy(AS_IN_THE_PAPER), **changes})


def off_rl(**changes):
    return {"recipe": "off_rl", "training": {**settings(objective="off_rl", **changes), "hyper_parameters": {}}}


def run_of(folder, right, *, validation=None, model=f"Qwen/{QWEN3}", before=None, hours=(1.0,), inputs=(), **changes):
    """A finished run on 2 devices, evaluated after every step.

    Args:
        right: problem set to right answers of each problem, of 100; of every step a dict, or one dict of the last step.
        validation: likewise right answers of the held-out problems, a list for each step.
        before: what step 0 answered.
        hours: of every step.
    """
    by_step = [right] if isinstance(right, dict) else right
    sets = list(dict.fromkeys(name for one in [before or {}, *by_step] for name in one))
    if validation:
        sets.append("math/validation")
    evaluation = {
        **INFO["evaluation"],
        "problem_sets": dict.fromkeys(sets, "e"),
        "samples": dict.fromkeys(sets, OF_100),
    }
    fingerprints = {**INFO["fingerprints"], "model": f"weights of {model}"}
    info = {**copy.deepcopy(INFO), "model": model, "fingerprints": fingerprints, "evaluation": evaluation}
    info["training"] = settings()
    del info["dataset"]
    open_run(folder, {**info, "inputs": list(inputs), **changes})
    append_json_line(folder / "ledger.jsonl", {"kind": "attempt", "time": 0, "attempt": 1, "devices": 2})
    steps = enumerate(by_step, start=1) if changes.get("kind") != "evaluation" else [(0, by_step[0])]
    if before:
        record_evaluation(folder, attempt=1, step=0, problems=answers(before))
    for step, one in steps:
        held_out = {"math/validation": validation[step - 1]} if validation else {}
        record_evaluation(folder, attempt=1, step=step, problems=answers({**one, **held_out}))
        record = {"kind": "end" if step in (0, len(by_step)) else "step", "time": 0, "attempt": 1, "step": step}
        append_json_line(folder / "ledger.jsonl", {**record, "seconds": {"training": 3600 * hours[max(0, step - 1)]}})
    return folder


def answers(right):
    return {name: {f"p{i}": [count, OF_100] for i, count in enumerate(counts)} for name, counts in right.items()}


def compare(folder, **more):
    return paper.compare(find_runs([folder], with_evaluations=True), **more)


def cell(found, table, row, column, model=QWEN3):
    (one,) = [c for c in found.cells if (c.table, c.model, c.row, c.column) == (table, model, row, column)]
    return one


def evaluation_of(folder, run, right, step):
    """What `recipe=evaluate` leaves of the model in RUN/best; the run was elsewhere when it trained."""
    identity = {"folder": "runs/then", **identity_of(read_info(run / "run.json"))}
    model = f"weights of Qwen/{QWEN3}"
    owed = Input(RUN, "runs/then", digest(identity), model, 7200.0, {"devices": 2}, {"recipe": "x", "step": step})
    info = {"kind": "evaluation", "recipe": "evaluate", "training": None, "inputs": [owed.as_json()]}
    return run_of(folder, right, **{**info, "model": "runs/then/best"})
