"""The base model at step 0 is one measurement of all runs that begin with it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fpa_verl.report.comparisons import objectives, paired, paper_figures, wallclock, wallclock_tables
from fpa_verl.report.statistics.base import base_notes, with_pooled_base
from fpa_verl.report.statistics.bootstrap import resample
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.run import read_run
from tests.runs.directories import INFO, make_run, outcomes

DATASET = {"fingerprint": "d", "device_seconds": 3600.0, "cost": {"device": "H", "devices": 1}}
NOTE = "The base model was measured 3 times, 41.0 to 47.0; its pooled accuracy 44.0 stands at step 0 of each"


def three(folder, **more):
    """Of 100 problems the base model solves 41, 44 and 47 in three evaluations: 132 of 300."""
    make_run(folder / "fpa", [41, 56], of=100, dataset=DATASET, **more)
    make_run(folder / "off", [44, 52], of=100, recipe="off_rl", dataset=DATASET, **more)
    make_run(folder / "grpo", [47, 50, 58], of=100, recipe="grpo_baseline", **more)
    return find_runs([folder])


def at_start(runs):
    return {run.name: run.of_source("toy")[0].accuracy for run in runs}


def test_all_draws_of_the_base_model_stand_at_step_0_problem_by_problem(tmp_path):
    runs = with_pooled_base(three(tmp_path))
    assert at_start(runs) == pytest.approx({"fpa": 0.44, "off": 0.44, "grpo": 0.44})
    # Problem 41 is right twice in two of three evaluations, problem 0 in all, problem 47 in none.
    problems = runs[0].of_source("toy")[0].problems
    assert [problems[f"p{i}"] for i in (0, 41, 44, 47)] == [(6, 6), (4, 6), (2, 6), (0, 6)]
    assert base_notes(runs, ["toy"]) == [NOTE]
    # What was measured after training is as it was.
    assert [run.of_source("toy")[1].accuracy for run in runs] == [0.56, 0.50, 0.52]
    assert with_pooled_base(runs) == runs


@pytest.mark.parametrize(
    "other",
    [
        {"fingerprints": {**INFO["fingerprints"], "model": "x"}},
        {"fingerprints": {**INFO["fingerprints"], "tokenizer": "x"}},
        {"fingerprints": {**INFO["fingerprints"], "template": "x"}},
        {"fingerprints": {**INFO["fingerprints"], "scorer": "x"}},
        {"evaluation": {**INFO["evaluation"], "temperature": 1.0}},
        {"evaluation": {**INFO["evaluation"], "problem_sets": {"toy": "x"}}},
        {
            "without": ["dataset"],
            "inputs": [
                {
                    "kind": "run",
                    "folder": "f",
                    "fingerprint": "e",
                    "base_model": "m",
                    "device_seconds": 7200.0,
                    "cost": {"device": "H", "devices": 2},
                }
            ],
        },
    ],
)
def test_what_is_not_the_same_measurement_stays_apart(tmp_path, other):
    three(tmp_path)
    make_run(tmp_path / "other", [90, 95], of=100, **other)
    assert at_start(with_pooled_base(find_runs([tmp_path]))) == pytest.approx(
        {"fpa": 0.44, "off": 0.44, "grpo": 0.44, "other": 0.90}
    )


def test_another_number_of_samples_is_pooled_by_its_draws(tmp_path):
    make_run(tmp_path / "a", [1, 4])
    make_run(tmp_path / "b", [1, 4], recipe="b", evaluation={**INFO["evaluation"], "samples": {"toy": 6}})
    (tmp_path / "b" / "evaluations.jsonl").write_text(
        "".join(
            json.dumps({"attempt": 1, "step": step, "data_source": "toy", "problems": {"p0": [3, 6]}}) + "\n"
            for step in (0, 1)
        )
    )
    point = with_pooled_base([read_run(tmp_path / name) for name in "ab"])[0].of_source("toy")[0]
    # 2 of 2 and 3 of 6.
    assert point.problems["p0"] == (5, 8)


def test_a_run_that_goes_on_from_another_pays_for_the_model_that_it_begins_with(tmp_path):
    earlier = {
        "kind": "run",
        "folder": "f",
        "fingerprint": "e",
        "base_model": "m",
        "device_seconds": 7200.0,
        "cost": {"device": "H", "devices": 2},
    }
    make_run(tmp_path / "on", [3, 4], without=["dataset"], inputs=[earlier])
    (curve,) = wallclock.compare(find_runs([tmp_path]), targets=[0.75]).curves
    # 2 device-hours for the model, and 0.5 for a step.
    assert [point.device_hours for point in curve.points] == [2.0, 2.5]


def test_every_method_begins_at_the_pooled_accuracy_and_no_replicate_sets_them_apart(tmp_path):
    found = wallclock.compare(three(tmp_path))
    assert [curve.mean_accuracy()[0] for curve in found.methods] == pytest.approx([0.44] * 3)
    first, *others = resample(found.methods, replicates=50)
    for other in others:
        assert np.array_equal(first.accuracy[:, 0], other.accuracy[:, 0])
    assert NOTE in found.notes()
    assert {row[0]: row[1] for row in wallclock_tables.run_table(found).rows} == dict.fromkeys(
        ("fpa", "off", "grpo"), "44.0"
    )
    assert found.as_json()["base"]["measured"] == [0.41, 0.47, 0.44]
    assert NOTE in paper_figures.compare(three(tmp_path / "again")).notes()


def test_no_default_target_is_at_or_below_the_base_model(tmp_path):
    found = wallclock.compare(three(tmp_path))
    # From 44 to 58: 51, 54.5 and 56.6; of the second, binary fractions are a little less.
    assert found.targets == [0.51, 0.54, 0.57]
    assert "from the base model (44.0) to the best that any method reached (58.0)" in (
        wallclock_tables.target_table(found).caption
    )


def test_default_targets_of_small_gains_are_in_tenths(tmp_path):
    make_run(tmp_path / "a", [440, 444], of=1000)
    # A half, 0.75 and 0.9 of 0.4 points.
    assert wallclock.compare(find_runs([tmp_path])).targets == [0.442, 0.443, 0.444]


def test_no_targets_where_no_method_got_above_the_base_model(tmp_path):
    make_run(tmp_path / "a", [3, 2])
    found = wallclock.compare(find_runs([tmp_path]))
    assert found.targets == []
    assert [table.header[0] for table in found.tables()] == ["method", "run"]
    assert "No targets: no method got above the base model (75.0)" in found.notes()


def test_a_target_at_or_below_the_base_model_is_said_to_be_reached_by_it(tmp_path):
    found = wallclock.compare(three(tmp_path), targets=[0.44, 0.5])
    assert found.reached_by_base == [0.44]
    assert any(note.startswith("Target 44: reached by the base model itself (44.0)") for note in found.notes())
    table = wallclock_tables.target_table(found)
    assert {tuple(row[1:3]) for row in table.rows if row[1] == "44"} == {("44", "base")}
    assert "base: by the base model itself" in table.caption
    # None of the runs' own 47 and 41 has a say: 45 takes training from all three.
    assert all(
        time.hours["device"].value > 0 for time in wallclock.compare(three(tmp_path / "b"), targets=[0.45]).times
    )


def test_the_best_step_is_the_one_that_the_run_took_for_its_best(tmp_path):
    # By its own measurement the base model, 4 of 4 against 3; by the pooled one, 8 of 16 draws, it would be step 1,
    # whose model it has not kept.
    make_run(tmp_path / "a", [1, 2], validation=[4, 3])
    make_run(tmp_path / "b", [1, 2], validation=[0, 1], recipe="b")
    (a,) = (c.chosen for c in objectives.compare(find_runs([tmp_path])).choices if c.chosen.method != "b")
    assert a.step_of(a.runs[0], best=True) == 0
    again = with_pooled_base(with_pooled_base(find_runs([tmp_path])))
    assert [run.chosen_step for run in again] == [0, 1]


def test_seeds_that_only_evaluated_the_base_model_count_it_once(tmp_path):
    for seed in range(2):
        make_run(tmp_path / f"a{seed}", [2], seed=seed)
    make_run(tmp_path / "b", [2, 3], recipe="b")
    (one,) = paired.compare(find_runs([tmp_path]), "toy", against="b").ahead
    assert one.difference.difference == pytest.approx(-0.25)
    runs = with_pooled_base(find_runs([tmp_path]))
    assert runs[0].of_source("toy")[0].problems == {key: (3 * r, 3 * n) for key, (r, n) in outcomes(2).items()}
