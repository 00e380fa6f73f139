"""Statements decided by made-up runs with known answers.

A method's seeds solve the first n of 100 problems, one more or one less in two of five: 50 means 49, 50, 50, 50, 51.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.evaluation.seeds import StudentT
from fpa_verl.files import append_json_line
from fpa_verl.report.claims.effects import EFFECTS, Effect, measure
from fpa_verl.report.claims.statements import LAMBDAS, Part, Statement, command, paper_statements
from fpa_verl.report.claims.verdict import Verdict, conjunction, corrected_level, of_part, side
from fpa_verl.report.comparisons import claims
from fpa_verl.report.figures import draw
from fpa_verl.report.statistics.arms import arms_of
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.record import record_evaluation
from tests.runs.directories import INFO, make_run, outcomes, settings
from tests.runs.test_verl_logs import STEPS

HOLDS, FAILS, UNDECIDED, NOT_RUN = Verdict
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


def log_probs(folder, method, *ends, training=OFF_RL):
    """Seeds of a method whose right trajectories have changed by `ends` at the 20 steps' last two."""
    make(folder, method, 50, 50, training=training, waver=[0] * len(ends))
    for seed, end in enumerate(ends):
        for step in range(1, 21):
            data = {"dynamics/right/log_prob_change": end if step > 18 else -77.0}
            append_json_line(folder / f"{method}_{seed}" / "metrics.1.jsonl", {"step": step, "data": data})


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


def beside_off_rl(method):
    def runs(folder, right):
        make(folder, "off_rl", 30, 50)
        make(folder, method, 30, right, training={**OFF_RL, "learning_rate": 8e-7})

    return runs


def sweep(folder, *rights):
    make(folder, "off_rl", 30, 50)
    for lam, right in zip(LAMBDAS, rights, strict=True):
        make(folder, "fpa_offline", 30, right, training=settings(lam=lam), name=f"lam{lam:g}")


def changes(folder, off_rl, fpa):
    log_probs(folder, "off_rl", *off_rl)
    log_probs(folder, "fpa_offline", *fpa, training=FPA)


def cost(folder, right):
    """GRPO pays 0.5 device-hours a step, and ends at step 5 with 60; FPA pays 1 for its data and 0.5 for its step."""
    make(folder, "grpo_baseline", 30, 35, 40, 45, 50, 60, training=None, dataset=None)
    make(folder, "fpa_offline", 30, right, training=FPA)


FALLEN, KEPT = (-9.0, -10.0, -10.0, -10.0, -11.0), (0.1, 0.2, 0.2, 0.2, 0.3)
LOST, WIDE = (-4.0, -5.0, -5.0, -5.0, -6.0), (-9.0, -5.0, 0.0, 5.0, 9.0)
# Statement, runs, what they are given, the verdict. A difference of 50 and 50, or 51, is within the interval.
CASES = [
    ("ahead", ahead, (70,), HOLDS),
    ("ahead", ahead, (30,), FAILS),
    ("ahead", ahead, (51,), UNDECIDED),
    ("log-probs", changes, (FALLEN, KEPT), HOLDS),
    ("log-probs", changes, (FALLEN, LOST), FAILS),
    ("log-probs", changes, (KEPT, KEPT), FAILS),
    ("log-probs", changes, (FALLEN, WIDE), UNDECIDED),
    ("prolonged", prolonged, (30, 90), HOLDS),
    ("prolonged", prolonged, (30, 50), FAILS),
    ("prolonged", prolonged, (70, 90), FAILS),
    ("prolonged", prolonged, (50, 90), UNDECIDED),
    ("one side", one_side, (20, 70), HOLDS),
    ("one side", one_side, (70, 70), FAILS),
    ("one side", one_side, (20, 30), FAILS),
    ("one side", one_side, (20, 50), UNDECIDED),
    ("low lr", beside_off_rl("off_rl_low_lr"), (30,), HOLDS),
    ("low lr", beside_off_rl("off_rl_low_lr"), (70,), FAILS),
    ("low lr", beside_off_rl("off_rl_low_lr"), (50,), UNDECIDED),
    ("lambda", sweep, (70, 70, 70, 70, 70), HOLDS),
    ("lambda", sweep, (70, 70, 70, 70, 20), FAILS),
    ("lambda", sweep, (70, 50, 70, 70, 70), UNDECIDED),
    ("kl", beside_off_rl("off_rl_kl"), (30,), HOLDS),
    ("kl", beside_off_rl("off_rl_kl"), (70,), FAILS),
    ("kl", beside_off_rl("off_rl_kl"), (50,), UNDECIDED),
    ("cost", cost, (80,), HOLDS),
    ("cost", cost, (40,), FAILS),
    ("cost", cost, (60,), UNDECIDED),
]


@pytest.mark.parametrize(("name", "runs", "given", "verdict"), CASES)
def test_a_statement_is_decided_each_way(tmp_path, name, runs, given, verdict):
    runs(tmp_path, *given)
    assert decided(tmp_path, name).verdict is verdict


def test_every_statement_is_decided_each_way_above():
    ways = {(name, verdict) for name, _, _, verdict in CASES}
    assert ways == {(one.name, way) for one in paper_statements() for way in (HOLDS, FAILS, UNDECIDED)}


# ---- effects --------------------------------------------------------------------------------------


def test_accuracy_and_its_interval_by_hand(tmp_path):
    ahead(tmp_path, 70)
    (effect,) = decided(tmp_path, "ahead").effects
    # 19 problems differ by 1 (51 to 69 of 1 to 100), by 4/5 the 51st less the 50th, ...: mean 0.2 by construction.
    by_problem = [0.0] * 49 + [1 - 4 / 5, 1 - 1 / 5] + [1.0] * 18 + [4 / 5, 1 / 5] + [0.0] * 29
    assert effect.problems == len(by_problem) == 100
    assert effect.measured.value == pytest.approx(0.2)
    # Seeds: -1, 0, 0, 0, 1 points have the variance 1/2, over 5 seeds 1/10, in each method.
    seeds = 0.1 * 0.01**2
    problems = stats.tvar(by_problem) / 100
    degrees = (problems + 2 * seeds) ** 2 / (problems**2 / 99 + 2 * seeds**2 / 4)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(problems + 2 * seeds)
    assert effect.measured.interval() == pytest.approx((0.2 - half, 0.2 + half))
    assert {name: len(runs) for name, runs in effect.runs.items()} == {"fpa_offline": 5, "off_rl": 5}


def test_accuracy_is_that_of_the_last_step_and_not_of_the_best(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "fpa_offline", 30, 90, 40, training=FPA)
    decision = decided(tmp_path, "ahead")
    assert decision.effects[0].measured.value == pytest.approx(-0.1)
    assert decision.verdict is FAILS


def test_only_problems_that_all_runs_were_asked_count(tmp_path):
    ahead(tmp_path, 70)
    # Problems 0 to 49, of which both methods solve all but the 50th in one seed.
    record_evaluation(tmp_path / "off_rl_0", attempt=1, step=1, problems={"toy": outcomes(49, 50)}, trained=True)
    (effect,) = decided(tmp_path, "ahead").effects
    assert (effect.problems, effect.measured.value) == (50, pytest.approx(1 / 250))


def test_problem_sets_are_put_together_by_source_and_problem(tmp_path):
    both = {**INFO["evaluation"], "problem_sets": {"toy": "e", "other": "o"}}
    for method, right, training in (("off_rl", 2, OFF_RL), ("fpa_offline", 8, FPA)):
        for seed in range(5):
            run = make_run(
                tmp_path / f"{method}{seed}", [0, 4], recipe=method, training=training, seed=seed, evaluation=both
            )
            for step in (0, 1):
                record_evaluation(run, attempt=1, step=step, problems={"other": outcomes(right, 8)})
    (effect,) = decided(tmp_path, "ahead").effects
    # Both solve 4 of 4; 8 against 2 of 8: (12 - 6) of 12.
    assert (effect.problems, effect.measured.value) == (12, 0.5)
    assert decided(tmp_path, "ahead", data_source="toy").effects[0].measured.value == 0.0
    assert any("Problem sets put together" in note for note in claims.compare(find_runs([tmp_path])).notes())


def test_a_peak_that_is_gone_is_no_degradation(tmp_path):
    make(tmp_path, "off_rl", 30, 40, 50)
    make(tmp_path, "fpa_offline", 30, 40, 50, training=FPA)
    make(tmp_path, "off_rl_prolonged", 30, 40, 50, 90, 50)
    effect, _ = decided(tmp_path, "prolonged").effects
    # Step 4 less step 2, where the ordinary run ended; against the peak at step 3 it would be -40 points.
    assert effect.measured.value == 0.0


def test_a_run_that_was_not_prolonged_or_not_looked_at_is_not_judged(tmp_path):
    make(tmp_path, "off_rl", 30, 40, 50)
    make(tmp_path, "off_rl_prolonged", 30, 40, 50)
    (missing,) = decided(tmp_path, "prolonged").effects[0].missing
    assert "ended at 2: train it longer" in missing.what
    for seed in range(5):
        run = tmp_path / f"sparse/off_rl_prolonged_{seed}"
        make_run(run, [30], of=100, recipe="off_rl_prolonged", training=OFF_RL, seed=seed, evaluation=ONLY)
        append_json_line(run / "ledger.jsonl", {"kind": "end", "time": 0, "attempt": 1, "step": 9, "seconds": {}})
        record_evaluation(run, attempt=1, step=9, problems={"toy": outcomes(50, 100)})
    runs = find_runs([*tmp_path.glob("off_rl_[0-9]"), tmp_path / "sparse"])
    part = Part("prolonged", "off_rl_prolonged", "off_rl", "<", 0.0)
    effect = measure(part, arms_of(runs), ["toy"])
    assert effect.measured is None
    assert "no evaluation near step 2" in effect.missing[0].what
    assert "trainer.test_freq=2" in effect.missing[0].what


def test_log_probs_by_hand(tmp_path):
    changes(tmp_path, FALLEN, KEPT)
    lost, kept, apart = (effect.measured for effect in decided(tmp_path, "log-probs").effects)
    # -9 to -11: variance 1/2, standard error sqrt(1/10); t with 4 degrees of freedom is 2.776.
    assert lost.interval() == pytest.approx((-10 - 2.776 * 0.1**0.5, -10 + 2.776 * 0.1**0.5), abs=1e-3)
    assert (kept.value, apart.value) == (pytest.approx(0.2), pytest.approx(10.2))
    welch = stats.ttest_ind(KEPT, FALLEN, equal_var=False).confidence_interval()
    assert apart.interval() == pytest.approx((welch.low, welch.high))


def test_without_a_reference_it_says_how_to_have_one(tmp_path):
    changes(tmp_path, FALLEN, KEPT)
    for file in tmp_path.glob("off_rl_*/metrics.1.jsonl"):
        file.unlink()
    decision = decided(tmp_path, "log-probs")
    assert [verdict.value for verdict in decision.parts] == ["not run", "holds", "not run"]
    assert decision.verdict is NOT_RUN
    assert "track_reference=true" in decision.effects[0].missing[0].what


def test_cost_to_the_others_own_final_accuracy_by_hand(tmp_path):
    cost(tmp_path, 80)
    (effect,) = decided(tmp_path, "cost").effects
    # GRPO is there after 5 steps of 0.5 device-hours, FPA after 1 of data and 0.5: 2.5 / 1.5. In every replicate FPA's
    # 80 problems hold GRPO's 60, and GRPO is there at its last evaluation and at no other.
    assert effect.measured.value == pytest.approx(5 / 3)
    assert effect.measured.interval() == pytest.approx((5 / 3, 5 / 3))


def test_a_method_that_never_gets_there_saves_nothing(tmp_path):
    cost(tmp_path, 40)
    measured = decided(tmp_path, "cost").effects[0].measured
    assert (measured.value, measured.interval()) == (0.0, (0.0, 0.0))


def test_data_that_cost_nobody_knows_what_are_not_for_less(tmp_path):
    make(tmp_path, "grpo_baseline", 30, 60, training=None, dataset=None)
    make(tmp_path, "fpa_offline", 30, 80, training=FPA, dataset={"fingerprint": "d", "device_seconds": 0.0, "cost": {}})
    decision = decided(tmp_path, "cost")
    assert decision.verdict is NOT_RUN
    assert "nobody knows the cost" in decision.effects[0].missing[0].what


def test_lambda_stands_beside_off_rl_at_the_same_other_settings(tmp_path):
    make(tmp_path, "fpa_offline", 30, 70, training=settings(lam=1.0))
    make(tmp_path, "off_rl", 30, 50, training={**OFF_RL, "learning_rate": 1e-3})
    effect = decided(tmp_path, "lambda").effects[LAMBDAS.index(1.0)]
    assert [(one.method, one.what) for one in effect.missing] == [
        ("off_rl", "no run at the other settings of fpa_offline")
    ]
    # A cache that approximates the reference is a setting of FPA alone.
    make(tmp_path, "off_rl", 30, 50, name="same")
    make(tmp_path, "fpa_offline", 30, 90, training=settings(lam=5.0, reference="topk 64+64"), name="cached")
    one, five = (decided(tmp_path, "lambda").effects[LAMBDAS.index(lam)] for lam in (1.0, 5.0))
    assert (one.measured.value, five.measured.value) == (pytest.approx(0.2), pytest.approx(0.4))
    assert {run.name[:4] for run in one.runs["off_rl"]} == {"same"}


def test_settings_are_chosen_on_validation_problems_or_not_at_all(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "fpa_offline", 30, 70, training=FPA)
    make(tmp_path, "fpa_offline", 30, 90, training=settings(lam=1.0), name="other")
    decision = decided(tmp_path, "ahead")
    assert decision.verdict is NOT_RUN
    assert "several settings (hyper_parameters.lam)" in decision.effects[0].missing[0].what


def test_of_several_settings_validation_chooses_and_a_note_says_so(tmp_path):
    for training, right, validation in ((FPA, 3, 4), (settings(lam=1.0), 4, 1)):
        for seed in range(5):
            name = f"fpa{training['hyper_parameters']['lam']:g}_{seed}"
            make_run(tmp_path / name, [1, right], validation=[1, validation], training=training, seed=seed)
    for seed in range(5):
        make_run(tmp_path / f"off{seed}", [1, 1], validation=[1, 1], training=OFF_RL, recipe="off_rl", seed=seed)
    (effect,) = decided(tmp_path, "ahead").effects
    # The higher accuracy on the test problems stands with the lower one on those of validation: 3/4 - 1/4.
    assert effect.measured.value == 0.5
    assert any("2 settings (hyper_parameters.lam)" in note for note in claims.compare(find_runs([tmp_path])).notes())


# ---- seeds ----------------------------------------------------------------------------------------


def test_too_few_seeds_decide_nothing_and_are_counted(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "fpa_offline", 30, 90, training=FPA, waver=(0, 0, 1))
    found = claims.compare(find_runs([tmp_path]))
    row = found.tables()[0].rows[0]
    assert row[2] == "undecided; fpa_offline: 2 of 5 seeds missing"
    shown = found.tables()[1].rows[0]
    assert shown[0] == "ahead"
    assert re.fullmatch(r"\+\d+\.\d to \+\d+\.\d", shown[3])
    assert shown[5:] == ["3, 5", "undecided"]
    note = (
        "fpa_offline: 2 of 5 seeds missing (for ahead): python -m verl.trainer.main -m recipe=fpa_offline data.seed=3,4"
    )
    assert note in found.notes()


def test_a_seed_that_was_run_twice_is_one(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "fpa_offline", 30, 90, training=FPA, waver=(0, 0, 1, 0))
    make(tmp_path, "fpa_offline", 30, 90, training=FPA, waver=(0, 0, 1, 0), name="again")
    decision = decided(tmp_path, "ahead")
    assert len(decision.effects[0].runs["fpa_offline"]) == 4
    assert decision.verdict is UNDECIDED


def test_one_seed_has_no_interval(tmp_path):
    make(tmp_path, "off_rl", 30, 50, waver=[0])
    make(tmp_path, "fpa_offline", 30, 90, training=FPA, waver=[0])
    assert claims.compare(find_runs([tmp_path])).tables()[1].rows[0][2:4] == ["+40.0", "-"]


def test_what_was_not_run_is_named_once_with_its_command(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    found = claims.compare(find_runs([tmp_path]))
    assert {one.verdict for one in found.decisions} == {NOT_RUN}
    assert len(found.tables()) == 1
    notes = [note for note in found.notes() if note.startswith("fpa_offline:")]
    assert notes == [
        "fpa_offline: no finished run (for ahead, log-probs, prolonged, cost): "
        "python -m verl.trainer.main -m recipe=fpa_offline data.seed=0,1,2,3,4"
    ]
    assert found.nothing_to_show()


def test_unfinished_runs_and_no_runs(tmp_path):
    with pytest.raises(DatasetError, match="no runs"):
        claims.compare([])
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "fpa_offline", 30, 90, training=FPA, finished=False)
    found = claims.compare(find_runs([tmp_path]))
    assert found.decisions[0].verdict is NOT_RUN
    assert found.notes()[0].startswith("Not finished, or never evaluated, and left out: fpa_offline_0")


@pytest.mark.parametrize("statement", paper_statements(), ids=lambda one: one.name)
def test_commands_name_recipes_that_there_are(statement):
    recipes = Path(__file__).parents[2] / "recipes" / "recipe"
    for part in statement.parts:
        for method in filter(None, (part.method, part.against)):
            words = command(method, part.lam, [0]).split()
            (recipe,) = (word.removeprefix("recipe=") for word in words if word.startswith("recipe="))
            assert (recipes / f"{recipe}.yaml").exists()
            # A report finds the runs under the method's name.
            assert recipe == method or f"recipe_name={method}" in words


# ---- verdicts -------------------------------------------------------------------------------------

NUMBERS = st.floats(-10, 10)
INTERVALS = st.tuples(NUMBERS, NUMBERS).map(lambda ends: tuple(sorted(ends)))


@given(INTERVALS, NUMBERS)
def test_the_other_direction_turns_the_verdict_round(interval, bound):
    turned = {HOLDS: FAILS, FAILS: HOLDS, UNDECIDED: UNDECIDED}
    assert side(interval, "<", bound) is turned[side(interval, ">", bound)]


@given(INTERVALS, NUMBERS)
def test_exchanging_the_methods_says_the_same(interval, bound):
    low, high = interval
    assert side((-high, -low), "<", -bound) is side(interval, ">", bound)


@given(INTERVALS, NUMBERS, st.floats(0, 5))
def test_a_higher_bound_is_harder_to_be_above(interval, bound, more):
    order = [FAILS, UNDECIDED, HOLDS]
    assert order.index(side(interval, ">", bound + more)) <= order.index(side(interval, ">", bound))


@given(st.floats(-5, 5), st.floats(0, 3), st.floats(1, 50), st.integers(1, 10))
def test_more_parts_never_decide_more_and_do_not_touch_what_holds(value, error, degrees, parts):
    effect = Effect(Part("accuracy", "a", "b", ">", 0.0), StudentT(value, error, degrees), {}, 9, [])
    alone, among = of_part(effect), of_part(effect, parts)
    assert among is alone or (alone, among) == (FAILS, UNDECIDED)


def test_an_end_on_the_bound_and_no_interval_decide_nothing():
    assert side((0.0, 1.0), ">", 0.0) is UNDECIDED
    assert side((math.nan, math.nan), ">", 0.0) is UNDECIDED


def test_one_of_five_parts_fails_at_99_percent_and_not_at_95():
    # 100 degrees of freedom: 95 % is 1.98 errors, 99 % is 2.63; the effect lies 2.3 errors below.
    below = Effect(Part("accuracy", "a", "b", ">", 0.0), StudentT(-2.3, 1.0, 100.0), {}, 9, [])
    assert corrected_level(5) == pytest.approx(0.99)
    assert (of_part(below, 1), of_part(below, 5)) == (FAILS, UNDECIDED)
    above = Effect(below.part, StudentT(2.3, 1.0, 100.0), {}, 9, [])
    assert (of_part(above, 1), of_part(above, 5)) == (HOLDS, HOLDS)


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([HOLDS, HOLDS], HOLDS),
        ([HOLDS, UNDECIDED], UNDECIDED),
        ([UNDECIDED, NOT_RUN], NOT_RUN),
        ([HOLDS, NOT_RUN, FAILS], FAILS),
    ],
)
def test_conjunction(parts, whole):
    assert conjunction(parts) is whole
    assert conjunction(parts[::-1]) is whole


def test_equal_methods_are_no_worse_by_the_margin_and_undecided_without_one(tmp_path):
    """1,000 problems and no difference: no further apart than 2 errors of 1 in 1,000."""
    for method in ("off_rl", "off_rl_kl"):
        make(tmp_path, method, 300, 500, of=1000, waver=[0] * 5, training={**OFF_RL, "tau": method})
    decision = decided(tmp_path, "kl")
    assert decision.effects[0].measured.interval() == pytest.approx((-0.00196, 0.00196), abs=1e-5)
    assert decision.verdict is HOLDS
    assert decided(tmp_path, "kl", margin=0.001).verdict is UNDECIDED
    assert decided(tmp_path, "kl", margin=0.0).verdict is UNDECIDED


def test_the_papers_bounds():
    """Ahead, behind and fallen are beyond 0; no worse is above the margin below 0, no better below that above it."""
    bounds = {one.name: [(part.direction, part.bound) for part in one.parts] for one in paper_statements(0.02)}
    assert bounds == {
        "ahead": [(">", 0.0)],
        "log-probs": [("<", 0.0), (">", -1.0), (">", 0.0)],
        "prolonged": [("<", 0.0), (">", -0.02)],
        "one side": [("<", 0.0), (">", -0.02)],
        "low lr": [("<", 0.02)],
        "lambda": [(">", -0.02)] * 5,
        "kl": [("<", 0.02)],
        "cost": [(">", 1.0)],
    }


def test_a_statement_of_ones_own(tmp_path):
    ahead(tmp_path, 70)
    runs = find_runs([tmp_path])
    far = Part("accuracy", "fpa_offline", "off_rl", ">", 0.1)
    alone = Part("accuracy", "fpa_offline", None, ">", 0.75)
    own = (Statement("far", "FPA is far ahead", "-", (far,)), Statement("high", "It solves most", "-", (alone,)))
    assert [one.verdict for one in claims.compare(runs, statements=own).decisions] == [HOLDS, UNDECIDED]
    for part, message in (
        (Part("accuracies", "a", "b", ">", 0.0), "no effect 'accuracies'.*choose from accuracy"),
        (Part("cost_ratio", "a", None, ">", 1.0), "say against which"),
    ):
        with pytest.raises(ConfigError, match=message):
            measure(part, [], ["toy"])
    with pytest.raises(ConfigError, match="say '>' or '<'"):
        Part("accuracy", "a", "b", ">=", 0.0)
    with pytest.raises(ConfigError, match="no part"):
        Statement("empty", "Nothing", "-", ())
    assert {part.kind for one in paper_statements() for part in one.parts} == EFFECTS.keys()


# ---- the command ----------------------------------------------------------------------------------


def test_command_writes_everything(tmp_path):
    sweep(tmp_path, 70, 70, 70, 70, 20)
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--compare", "claims", "--margin", "0.02"])
    assert done.exit_code == 0, done.output
    out = tmp_path / "report"
    assert (out / "claims.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "claims.svg").read_text()
    assert "| lambda | No lambda from 0.5 to 10 is below lambda 0" in (out / "claims.md").read_text()
    content = json.loads((out / "claims.json").read_text())
    found = {one["name"]: one for one in content["statements"]}
    assert found["lambda"]["verdict"] == "does not hold"
    ten = found["lambda"]["parts"][-1]
    assert (ten["lam"], ten["bound"], ten["verdict"]) == (10.0, -0.02, "does not hold")
    assert ten["value"] == pytest.approx(-0.3)
    assert ten["corrected_level"] == pytest.approx(0.99)
    assert ten["corrected_interval"][0] < ten["interval"][0] < -0.3 < ten["interval"][1] < ten["corrected_interval"][1]
    assert ten["problems"] == 100
    assert len(ten["runs"]["off_rl"]) == 5
    assert "--margin 0.02" in content["provenance"]["command"]
    assert '<section id="claims">' in (out / "report.html").read_text()


def test_a_figure_has_a_panel_a_unit_and_a_line_an_effect(tmp_path):
    changes(tmp_path, FALLEN, KEPT)
    make(tmp_path, "grpo_baseline", 30, 45, training=None, dataset=None)
    found = claims.compare(find_runs([tmp_path]))
    points, nats, ratio = draw(found)["claims"].axes
    # FPA has 50 problems before it has trained, so that it pays nothing for GRPO's 45.
    assert found.decisions[-1].effects[0].measured.value == math.inf
    assert [label.get_text() for label in ratio.get_yticklabels()] == [
        "cost: device-hours: grpo_baseline over fpa_offline"
    ]
    assert [label.get_text() for label in points.get_yticklabels()][::-1] == [
        "ahead: accuracy: fpa_offline less off_rl",
        "lambda: accuracy: fpa_offline lam=2 less off_rl",
    ]
    assert [label.get_text() for label in nats.get_yticklabels()][::-1] == [
        "log-probs: log-prob change of right trajectories: off_rl",
        "log-probs: log-prob change of right trajectories: fpa_offline",
        "log-probs: log-prob change of right trajectories: fpa_offline less off_rl",
    ]
    # Interval, number and bound of the lowest line, FPA less Off-RL.
    interval, number, bound = nats.get_lines()[:3]
    assert interval.get_xdata() == pytest.approx(found.decisions[1].effects[2].measured.interval())
    assert number.get_xdata() == pytest.approx([10.2])
    assert list(bound.get_xdata()) == [0.0]


def test_a_log_of_verl_has_no_outcomes_to_judge_by(tmp_path):
    ahead(tmp_path / "runs", 70)
    log = tmp_path / "log.jsonl"
    for step, metrics in STEPS.items():
        append_json_line(log, {"step": step, "data": metrics})
    found = claims.compare(find_runs([tmp_path / "runs", f"grpo_baseline={log}"]))
    assert found.decisions[0].verdict is HOLDS
    assert found.decisions[-1].verdict is NOT_RUN
    assert "a log without outcomes of single problems" in found.notes()[0]


def test_a_page_on_something_else_has_them_only_where_a_statement_has_its_runs(tmp_path):
    make(tmp_path, "off_rl", 30, 50, waver=(0, 0))
    assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert '<section id="claims">' not in page
    assert "no statement of the paper has its runs" in page
    make(tmp_path, "fpa_offline", 30, 70, training=FPA, waver=(0, 0))
    assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 0
    assert '<section id="claims">' in (tmp_path / "report" / "report.html").read_text()


def test_nothing_run_yet_is_no_error_when_asked_for(tmp_path):
    make(tmp_path, "sft", 30, 50, waver=[0])
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--compare", "claims"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report" / "report.html").exists()
    assert not (tmp_path / "report" / "claims.png").exists()


@pytest.mark.parametrize(
    "options", [["--compare", "claims", "--margin", "1.5"], ["--power", "0.02", "--margin", "0.01"]]
)
def test_a_margin_that_says_nothing_is_refused(tmp_path, options):
    ahead(tmp_path, 70)
    done = CliRunner().invoke(app, ["report", str(tmp_path), *options])
    assert isinstance(done.exception, ConfigError)
    assert "--margin" in str(done.exception)
