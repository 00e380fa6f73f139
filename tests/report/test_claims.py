"""Statements decided by made-up runs with known answers."""

from __future__ import annotations

import json
import math
import re

import pytest
from scipy import stats
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.files import append_json_line
from fpa_verl.report.claims.effects import measure
from fpa_verl.report.claims.statements import LAMBDAS, Part, paper_statements
from fpa_verl.report.claims.verdict import Verdict
from fpa_verl.report.comparisons import claims
from fpa_verl.report.figures import draw
from fpa_verl.report.statistics.arms import arms_of
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.record import record_evaluation
from tests.report.claim_runs import (
    FALLEN,
    FPA,
    KEPT,
    LOST,
    LOW_LR,
    OFF_RL,
    ONLY,
    WIDE,
    WITH_KL,
    ahead,
    beside_off_rl,
    changes,
    cost,
    decided,
    make,
    one_side,
    prolonged,
    sweep,
)
from tests.runs.directories import INFO, make_run, outcomes, settings
from tests.runs.test_verl_logs import STEPS

HOLDS, FAILS, UNDECIDED, NOT_RUN = Verdict

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
    ("low lr", beside_off_rl("off_rl_low_lr", LOW_LR), (30,), HOLDS),
    ("low lr", beside_off_rl("off_rl_low_lr", LOW_LR), (70,), FAILS),
    ("low lr", beside_off_rl("off_rl_low_lr", LOW_LR), (50,), UNDECIDED),
    ("lambda", sweep, (70, 70, 70, 70, 70), HOLDS),
    ("lambda", sweep, (70, 70, 70, 70, 20), FAILS),
    ("lambda", sweep, (70, 50, 70, 70, 70), UNDECIDED),
    ("kl", beside_off_rl("off_rl_kl", WITH_KL), (30,), HOLDS),
    ("kl", beside_off_rl("off_rl_kl", WITH_KL), (70,), FAILS),
    ("kl", beside_off_rl("off_rl_kl", WITH_KL), (50,), UNDECIDED),
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
    # All seeds of FPA alone solve problems 52 to 69; of the 50th, 51st, 70th and 71st some seeds of a method do.
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
    make(tmp_path, "off_rl", 30, 40, 50)
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
    (missing,) = effect.missing
    assert "learning_rate is 1e-06 and 0.001 (fpa_offline first)" in missing.what
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
    assert "several settings (hyper_parameters.lam 2.0 or 1.0)" in decision.effects[0].missing[0].what


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
    assert any("2 settings (hyper_parameters.lam" in note for note in claims.compare(find_runs([tmp_path])).notes())


# ---- seeds ----------------------------------------------------------------------------------------


def test_too_few_seeds_decide_nothing_and_are_counted(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "fpa_offline", 30, 90, training=FPA, waver=(0, 0, 1))
    found = claims.compare(find_runs([tmp_path]))
    row = found.tables()[0].rows[0]
    assert row[2] == "undecided; fpa_offline at lambda 2: 2 of 5 seeds missing"
    shown = found.tables()[1].rows[0]
    assert shown[0] == "ahead"
    assert re.fullmatch(r"\+\d+\.\d to \+\d+\.\d", shown[3])
    assert shown[5:] == ["3, 5", "undecided"]
    note = (
        "fpa_offline at lambda 2: 2 of 5 seeds missing (for ahead, lambda): python -m verl.trainer.main -m "
        "recipe=fpa_offline actor_rollout_ref.actor.policy_loss.lam=2 data.seed=3,4"
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
    assert found.why_not_beside_others()


def test_unfinished_runs_and_no_runs(tmp_path):
    with pytest.raises(DatasetError, match="no runs"):
        claims.compare([])
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "fpa_offline", 30, 90, training=FPA, finished=False)
    found = claims.compare(find_runs([tmp_path]))
    assert found.decisions[0].verdict is NOT_RUN
    assert found.notes()[0].startswith("Not finished, or never evaluated, and left out: fpa_offline_0")


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
    # The base model has (10 x 50 + 5 x 30) / 15 = 43.3 problems in all: GRPO pays 0.5 device-hours for 45, and FPA 1.5.
    assert found.decisions[-1].effects[0].measured.value == pytest.approx(1 / 3)
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
