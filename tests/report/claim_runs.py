"""Made-up runs of the methods that statements are about.

A method's seeds solve the first n of 100 problems, one more or one less in two of five: 50 means 49, 50, 50, 50, 51.
"""

from __future__ import annotations

import math

from fpa_verl.files import append_json_line
from fpa_verl.report.claims.statements import LAMBDAS
from fpa_verl.report.comparisons import claims
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.record import record_evaluation
from tests.runs.directories import INFO, make_run, outcomes, settings

WAVER = (-1, 0, 0, 0, 1)
OFF_RL = {**settings(objective="off_rl"), "hyper_parameters": {}}
FPA = settings(lam=2.0)
# 3,600 device-seconds of generation.
DATASET = {"fingerprint": "d", "device_seconds": 3600.0, "cost": {"device": "H", "devices": 2}}
ONLY = {**INFO["evaluation"], "problem_sets": {"toy": "e"}}


def make(folder, method, *rights, training=OFF_RL, name=None, waver=WAVER, of=100, dataset=DATASET, **more):
    """Seeds of a method that solve `rights` at steps 0, 1, ...; all but the base model waver."""
    for seed, change in enumerate(waver):
        course = [rights[0], *(right + change for right in rights[1:])]
        run = folder / f"{name or method}_{seed}"
        make_run(
            run,
            course,
            of=of,
            recipe=method,
            training=training,
            seed=seed,
            evaluation=ONLY,
            dataset=dataset,
            **more,
        )


def log_probs(folder, method, *ends, training=OFF_RL, gone=()):
    """Seeds of a method whose right trajectories have changed by `ends` at the 20 steps' last two; NaN at `gone`."""
    make(folder, method, 50, 50, training=training, waver=[0] * len(ends), finished=False)
    for seed, end in enumerate(ends):
        run = folder / f"{method}_{seed}"
        for step in range(1, 21):
            value = math.nan if step in gone else end if step > 18 else -77.0
            data = {"dynamics/right/log_prob_change": value}
            append_json_line(run / "metrics.1.jsonl", {"step": step, "data": data})
        record_evaluation(run, attempt=1, step=20, problems={"toy": outcomes(50, 100)})
        ended(run, 20)


def ended(run, step, **more):
    """The ledger's steps from the second on, which cost nothing, and its end."""
    for number in range(2, step + 1):
        last = {"kind": "end", **more} if number == step else {"kind": "step"}
        append_json_line(run / "ledger.jsonl", {"time": 0, "attempt": 1, "step": number, "seconds": {}, **last})


def decided(folder, name, **more):
    found = claims.compare(find_runs([folder]), **more)
    (decision,) = (one for one in found.decisions if one.statement.name == name)
    return decision


def ahead(folder, right):
    make(folder, "off_rl", 30, 50)
    make(folder, "fpa_offline", 30, right, training=FPA)


def prolonged(folder, off_rl, fpa):
    """The ordinary runs end at step 2."""
    make(folder, "off_rl", 30, 40, 50)
    make(folder, "fpa_offline", 30, 40, 70, training=FPA)
    make(folder, "off_rl_prolonged", 30, 40, 50, 50, off_rl)
    make(folder, "fpa_offline_prolonged", 30, 40, 70, 90, fpa, training=FPA)


def one_side(folder, right, wrong):
    make(folder, "off_rl", 30, 50)
    make(folder, "fpa_correct_only", 30, right, training=FPA)
    make(folder, "fpa_incorrect_only", 30, wrong, training=FPA)


LOW_LR, WITH_KL = {**OFF_RL, "learning_rate": 8e-7}, {**OFF_RL, "forward_kl_coef": 0.04}


def beside_off_rl(method, training):
    def runs(folder, right):
        make(folder, "off_rl", 30, 50)
        make(folder, method, 30, right, training=training)

    return runs


def sweep(folder, *rights):
    make(folder, "off_rl", 30, 50)
    for lam, right in zip(LAMBDAS, rights, strict=True):
        make(folder, "fpa_offline", 30, right, training=settings(lam=lam), name=f"lam{lam:g}")


def changes(folder, off_rl, fpa):
    log_probs(folder, "off_rl", *off_rl)
    log_probs(folder, "fpa_offline", *fpa, training=FPA)


def cost(folder, right):
    """GRPO pays 0.5 device-hours a step, and ends at step 5 with 60; FPA pays 1 for its data and 0.5 for each of 4."""
    make(folder, "grpo_baseline", 30, 35, 40, 45, 50, 60, training=None, dataset=None)
    make(folder, "fpa_offline", 30, right, right, right, right, training=FPA)


FALLEN, KEPT = (-9.0, -10.0, -10.0, -10.0, -11.0), (0.1, 0.2, 0.2, 0.2, 0.3)
LOST, WIDE = (-4.0, -5.0, -5.0, -5.0, -6.0), (-9.0, -5.0, 0.0, 5.0, 9.0)
