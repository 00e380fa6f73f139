"""Which made-up runs a statement may be decided by, and what is said where there are none such."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fpa_verl.errors import DatasetError
from fpa_verl.report.claims.statements import BY_OBJECTIVE, paper_statements
from fpa_verl.report.claims.verdict import Verdict
from fpa_verl.report.comparisons import claims
from fpa_verl.report.paper.models import usual_lambda
from fpa_verl.report.paper.published import lambda_of
from fpa_verl.report.statistics.arms import apart, arms_of, choose
from fpa_verl.runs.find import find_runs
from tests.report.claim_runs import (
    DATASET,
    FALLEN,
    FPA,
    KEPT,
    LOW_LR,
    OFF_RL,
    ONLY,
    WITH_KL,
    decided,
    ended,
    log_probs,
    make,
)
from tests.runs.directories import make_run, settings

HOLDS, FAILS, UNDECIDED, NOT_RUN = Verdict
ONE_SIDED = {"objective": "fpa_one_sided", "hyper_parameters": {"lam": 2.0, "future_weight_on": "right"}}


def why(decision, part=0):
    """Of which method something is said, and what."""
    (missing,) = decision.effects[part].missing
    return missing.method, missing.what


# ---- settings -------------------------------------------------------------------------------------


def test_every_comparison_of_accuracies_says_what_may_differ():
    parts = {one.name: one.parts for one in paper_statements()}
    told = {
        (name, part.may_differ, part.demands)
        for name, group in parts.items()
        for part in group
        if part.against and part.kind in ("accuracy", "log_prob_change")
    }
    assert told == {
        *((name, BY_OBJECTIVE, ()) for name in ("ahead", "log-probs", "one side", "lambda")),
        ("low lr", ("learning_rate",), (("learning_rate", "lower"),)),
        ("kl", ("forward_kl_coef",), (("forward_kl_coef", "above 0"),)),
    }


@pytest.mark.parametrize(
    ("name", "method", "training", "what"),
    [
        (
            "low lr",
            "off_rl_low_lr",
            {**OFF_RL, "learning_rate": 1e-2},
            "learning_rate is 0.01 and 1e-06, and must be lower",
        ),
        ("low lr", "off_rl_low_lr", OFF_RL, "learning_rate is 1e-06 and 1e-06, and must be lower"),
        ("low lr", "off_rl_low_lr", {**LOW_LR, "batch_size": 8}, "batch_size is 8 and not set"),
        ("low lr", "off_rl_low_lr", None, "learning_rate is not set and 1e-06, and must be lower"),
        ("kl", "off_rl_kl", {**WITH_KL, "learning_rate": 1e-2}, "learning_rate is 0.01 and 1e-06"),
        (
            "kl",
            "off_rl_kl",
            {**OFF_RL, "forward_kl_coef": 0.0},
            "forward_kl_coef is 0.0 and not set, and must be above 0",
        ),
        ("kl", "off_rl_kl", OFF_RL, "forward_kl_coef is not set and not set, and must be above 0"),
        ("one side", "fpa_correct_only", {**ONE_SIDED, "learning_rate": 1.0}, "learning_rate is 1.0 and 1e-06"),
        ("ahead", "fpa_offline", {**FPA, "learning_rate": 3e-6}, "learning_rate is 3e-06 and 1e-06"),
    ],
)
def test_what_else_differs_is_named_with_both_values_and_nothing_is_decided(tmp_path, name, method, training, what):
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, method, 30, 20, training=training)
    decision = decided(tmp_path, name)
    assert decision.parts[0] is NOT_RUN
    of, said = why(decision)
    assert of == method
    assert what in said


def test_another_dataset_is_named(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "fpa_offline", 30, 90, training=FPA, dataset={**DATASET, "fingerprint": "e"})
    assert "dataset is e and d (fpa_offline first)" in why(decided(tmp_path, "ahead"))[1]


def test_one_that_agrees_is_taken_whatever_else_there_is(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "off_rl_kl", 30, 90, training={**WITH_KL, "learning_rate": 1e-2}, name="else")
    make(tmp_path, "off_rl_kl", 30, 30, training=WITH_KL)
    effect = decided(tmp_path, "kl").effects[0]
    assert effect.measured.value == pytest.approx(-0.2)


def test_of_several_pairs_validation_chooses(tmp_path):
    for rate, right, validation in ((1e-6, 3, 4), (3e-6, 4, 1), (9e-6, 4, 4)):
        for seed in range(5):
            training = {**FPA, "learning_rate": rate}
            make_run(
                tmp_path / f"fpa{rate}_{seed}", [1, right], validation=[1, validation], training=training, seed=seed
            )
    for rate, right in ((1e-6, 1), (3e-6, 2)):
        for seed in range(5):
            training = {**OFF_RL, "learning_rate": rate}
            folder = tmp_path / f"off{rate}_{seed}"
            make_run(folder, [1, right], validation=[1, 1], training=training, recipe="off_rl", seed=seed)
    # 9e-6 has no partner; of 1e-6 and 3e-6 the first is better on validation problems: 3/4 - 1/4.
    assert decided(tmp_path, "ahead").effects[0].measured.value == 0.5


# ---- lengths --------------------------------------------------------------------------------------


def test_methods_of_different_lengths_are_not_compared(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "fpa_offline", 30, 60, 70, 80, training=FPA)
    decision = decided(tmp_path, "ahead")
    assert decision.verdict is NOT_RUN
    assert why(decision)[0] == "fpa_offline"
    assert "the same number of steps: fpa_offline 3, off_rl 1:" in why(decision)[1]


def test_seeds_of_different_lengths_are_not_pooled(tmp_path):
    make(tmp_path, "fpa_offline", 30, 70, training=FPA)
    make(tmp_path, "off_rl", 30, 50)
    given = {"of": 100, "recipe": "off_rl", "training": OFF_RL, "dataset": DATASET, "evaluation": ONLY}
    make_run(tmp_path / "long", [30, 50, 60], seed=9, **given)
    method, what = why(decided(tmp_path, "ahead"))
    assert method == "off_rl"
    assert "1 (off_rl_0, off_rl_1, off_rl_2, off_rl_3, off_rl_4); 2 (long)" in what


def test_log_probs_over_different_lengths_are_not_compared(tmp_path):
    log_probs(tmp_path, "off_rl", *FALLEN)
    log_probs(tmp_path, "fpa_offline", *KEPT, training=FPA)
    for seed in range(5):
        ended(tmp_path / f"fpa_offline_{seed}", 30)
    decision = decided(tmp_path, "log-probs")
    assert "fpa_offline 30, off_rl 20" in why(decision, part=2)[1]


@pytest.mark.parametrize(("planned", "verdict"), [(3, HOLDS), (None, HOLDS), (8, NOT_RUN)])
def test_one_that_stopped_early_counts_as_it_is_where_it_was_given_as_much(tmp_path, planned, verdict):
    make(tmp_path, "off_rl", 30, 40, 45, 50)
    make(tmp_path, "fpa_offline", 30, 60, 70, training=FPA)
    for seed in range(5):
        more = {} if planned is None else {"total_steps": planned}
        ended(tmp_path / f"fpa_offline_{seed}", 2, stopped_early=True, **more)
    found = claims.compare(find_runs([tmp_path]))
    assert found.decisions[0].verdict is verdict
    where = "step 2 of 3" if planned else "step 2"
    note = f"fpa_offline_0: stopped early at {where}, and counts with what it had learned by then"
    assert (note in found.notes()) is (verdict is HOLDS)


# ---- log-probs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [(20,), (19, 20), range(11, 21)])
def test_no_earlier_step_stands_for_a_late_one_without_a_number(tmp_path, gone):
    log_probs(tmp_path, "off_rl", *FALLEN, gone=gone)
    decision = decided(tmp_path, "log-probs")
    assert decision.parts[0] is NOT_RUN
    late = [step for step in gone if step > 18]
    method, what = why(decision)
    assert method == "off_rl"
    assert f"in {len(late)} of its last 2 steps (the first is step {late[0]} of 20)" in what


def test_earlier_steps_without_a_number_do_not_matter(tmp_path):
    log_probs(tmp_path, "off_rl", *FALLEN, gone=(3, 18))
    assert decided(tmp_path, "log-probs").effects[0].measured.value == pytest.approx(-10)


# ---- what is said ---------------------------------------------------------------------------------


def test_the_method_that_has_several_settings_is_named(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "off_rl", 30, 60, training={**OFF_RL, "hyper_parameters": {"x": 1}}, name="other")
    make(tmp_path, "fpa_offline", 30, 70, training=FPA)
    found = claims.compare(find_runs([tmp_path]))
    assert found.decisions[0].verdict is NOT_RUN
    method, what = why(found.decisions[0])
    assert method == "off_rl"
    assert what == (
        "run with several settings (hyper_parameters {} or unset, hyper_parameters.x unset or 1), and without an "
        "evaluation on validation problems to choose by: report one of them alone"
    )


def test_settings_that_cannot_be_chosen_are_named_with_their_values(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    for lam in (1.0, 5.0):
        make(tmp_path, "fpa_offline", 30, 70, training=settings(lam=lam), name=f"lam{lam:g}")
    method, what = why(decided(tmp_path, "ahead"))
    assert method == "fpa_offline"
    assert what.startswith("run with several settings (hyper_parameters.lam 1.0 or 5.0), and without")
    assert not any("problems chooses" in note for note in claims.compare(find_runs([tmp_path])).notes())


EARLIER = {"kind": "run", "folder": "x", "fingerprint": "r", "base_model": "m", "device_seconds": 1.0, "cost": {}}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"dataset": {**DATASET, "fingerprint": "e"}}, 'the dataset "d" or "e"'),
        (
            {"inputs": [{**EARLIER, "kind": "dataset", "fingerprint": "d"}, {**EARLIER, "about": {"step": 3}}]},
            'the run that it goes on from unset or "r/3"',
        ),
        ({"training": {**OFF_RL, "reference": None}}, "reference unset or null"),
        ({"training": {name: OFF_RL[name] for name in ("objective", "learning_rate")}}, "hyper_parameters {} or unset"),
        ({"recipe": "mine"}, "the name off_rl or mine"),
    ],
)
def test_what_arms_differ_in_is_always_named(tmp_path, more, said):
    given = {"of": 100, "recipe": "off_rl", "training": OFF_RL, "dataset": DATASET, "evaluation": ONLY}
    make_run(tmp_path / "a", [30, 50], **given)
    make_run(tmp_path / "b", [30, 50], **{**given, **more})
    arms = arms_of(find_runs([tmp_path]))
    assert apart(arms) == said
    with pytest.raises(DatasetError) as raised:
        choose(arms)
    assert f"several settings ({said})" in str(raised.value)


# ---- commands -------------------------------------------------------------------------------------


def _asked_for(folder):
    notes = claims.compare(find_runs([folder])).notes()
    return [note for note in notes if note.startswith("fpa_offline") and "recipe=fpa_offline " in note]


def test_seeds_of_the_lambda_at_hand_are_asked_for_once(tmp_path):
    make(tmp_path, "off_rl", 30, 50)
    make(tmp_path, "fpa_offline", 30, 90, training=settings(lam=5.0), waver=(0, 0, 1))
    asked = _asked_for(tmp_path)
    (seeds,) = [note for note in asked if "data.seed=3,4" in note]
    assert seeds.startswith("fpa_offline at lambda 5: 2 of 5 seeds missing (for ahead, lambda)")
    # Of the five of the sweep, one is at hand.
    assert len(asked) == 5


@pytest.mark.parametrize(
    ("model", "own"), [("runs/demo/base_model", 2.0), ("Qwen/Qwen3-4B-Base", 2.0), ("Qwen/Qwen2.5-Math-7B", 1.0)]
)
def test_the_lambda_that_a_recipe_has_by_itself_is_asked_for_once(tmp_path, model, own):
    make(tmp_path, "off_rl", 30, 50, model=model)
    asked = _asked_for(tmp_path)
    assert len(asked) == 5
    assert asked[0].startswith("fpa_offline: no finished run (for ahead, log-probs, prolonged, lambda, cost)")
    assert not any(f"lam={own:g} " in note for note in asked)


def test_both_are_asked_for_where_nobody_knows_the_lambda_of_the_recipe(tmp_path):
    make(tmp_path, "off_rl", 30, 50, model="my/model")
    assert len(_asked_for(tmp_path)) == 6


def test_usual_lambdas_are_those_of_the_recipes(tmp_path):
    known = {}
    for place, file in enumerate((Path(__file__).parents[2] / "recipes" / "model").glob("*.yaml")):
        recipe = yaml.safe_load(file.read_text())
        run = make_run(tmp_path / str(place), [1], model=recipe["actor_rollout_ref"]["model"]["path"])
        if (lam := usual_lambda(find_runs([run]))) is not None:
            known[file.stem] = lam, recipe["scale"]["lam"]
    # Those of the paper, and the demo's.
    assert len(known) == len(lambda_of()) + 1
    assert all(ours == recipes for ours, recipes in known.values())
