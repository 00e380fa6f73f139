"""Time to target, ratio, interval and break-even, against numbers worked out by hand.

A run of `make_run` holds 2 devices for 900 s a step: 0.5 device-hours and 0.25 hours. Its dataset cost 1 device-hour.
"""

from __future__ import annotations

import numpy as np
import pytest

from fpa_verl.errors import DatasetError
from fpa_verl.files import append_json_line
from fpa_verl.report.comparisons import wallclock, wallclock_tables
from fpa_verl.report.statistics.bootstrap import Passage, estimate, first_passage, short_until
from fpa_verl.report.statistics.targets import break_even, cost_per_run, ratio, ratio_bounds
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.record import record_evaluation
from tests.runs.directories import make_run

INF, NAN = np.inf, np.nan
DATASET = {"fingerprint": "d", "device_seconds": 3600.0, "cost": {"device": "H", "devices": 1}}


def compare(folder, *targets, **more):
    return wallclock.compare(find_runs([folder]), targets=list(targets), **more)


def time_of(comparison, method, target):
    (found,) = (time for time in comparison.times if (time.method, time.target) == (method, target))
    return found


def test_first_passage_is_a_staircase_and_a_gap_reaches_nothing():
    accuracy = np.array([[0.2, 0.5, 0.4, 0.9], [0.2, NAN, 0.6, 0.1], [0.1, 0.2, 0.3, NAN], [0.7, 0.0, 0.0, 0.0]])
    hours = np.array([[0.0, 1.0, 2.0, 3.0]] * 4)
    assert first_passage(accuracy, hours, 0.5).tolist() == [1.0, 2.0, INF, 0.0]
    # 0.1 + 0.2 is more than 0.3, and 0.3 asked as 0.1 + 0.2 is reached all the same.
    assert first_passage(accuracy, hours, 0.1 + 0.2).tolist() == [1.0, 2.0, 2.0, 0.0]


def test_interval_counts_infinity_as_the_largest_and_leaves_nothing_told_out():
    # Of 40 numbers told, the 2.5 % quantile lies between the 1st and 2nd: the lower, 1; at the top infinity.
    drawn = np.array([*range(1, 39), INF, INF, NAN, NAN], dtype=float)
    found = estimate(20.0, drawn)
    assert (found.low, found.high) == (1.0, INF)
    assert found.share == 38 / 42
    assert found.as_json() == {"value": 20.0, "low": 1.0, "high": None, "share": 38 / 42}
    assert np.isnan(estimate(NAN, np.array([NAN])).low)


def test_ratio_and_break_even_formulas():
    assert ratio(np.array([3.0, INF, 3.0]), np.array([1.5, 1.5, INF])).tolist() == [2.0, INF, 0.0]
    assert np.isnan(ratio(np.array([INF, 0.0]), np.array([INF, 0.0]))).all()
    # D = 10, T = 12, so t = 2. T_0 = 4.5: 10 / 2.5 = 4 runs. 4.4: 10 / 2.4 = 4.17, so 5. 2: never. 20: at once.
    others = np.array([4.5, 4.4, 2.0, 20.0])
    assert break_even(10.0, np.full(4, 12.0), others).tolist() == [4.0, 5.0, INF, 1.0]
    # t = 0.1, T_0 = 0.2: 0.3 / 0.1 = 3, whatever the rounding says.
    assert break_even(0.3, np.array([0.4]), np.array([0.2])).tolist() == [3.0]
    assert np.isnan(break_even(10.0, np.array([INF, 12.0, 0.0]), np.array([3.0, INF, 1.0]))).all()
    assert cost_per_run(10.0, 2.0, np.array([1.0, 5.0])).tolist() == [12.0, 4.0]


@pytest.mark.parametrize(
    ("other", "own", "bounds"),
    [
        # (time, the highest cost at which it was short of the target) of each.
        ((3.0, 2.0), (1.5, 1.0), (2.0, 2.0)),
        # Short at 1, there at 3: it may have been there at 1.5 too.
        ((3.0, 1.0), (1.5, 1.0), (1.0, 2.0)),
        ((1.5, 1.0), (3.0, 1.0), (0.5, 1.0)),
        # One that fell short counts where it was given as much.
        ((INF, 2.0), (1.5, 1.0), (INF, INF)),
        ((INF, 1.0), (1.5, 1.0), (1.0, INF)),
        ((1.5, 1.0), (INF, 2.0), (0.0, 0.0)),
        ((1.5, 1.0), (INF, 1.0), (0.0, 1.0)),
        ((INF, 2.0), (INF, 1.0), (0.0, INF)),
        # Nobody paid; and one that was never seen below the target.
        ((0.0, -INF), (0.0, -INF), (1.0, 1.0)),
        ((2.0, -INF), (1.0, 0.5), (1.0, 2.0)),
    ],
)
def test_what_a_replicate_leaves_possible(other, own, bounds):
    passages = [Passage(np.array([time]), np.array([short])) for time, short in (other, own)]
    assert tuple(end[0] for end in ratio_bounds(*passages)) == bounds


def test_the_last_cost_at_which_a_target_was_missed():
    accuracy = np.array([[0.2, 0.4, 0.6, 0.1], [0.2, NAN, 0.6, 0.1], [0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, NAN]])
    hours = np.array([[0.0, 1.0, 2.0, 3.0]] * 4)
    assert short_until(accuracy, hours, 0.5).tolist() == [1.0, 0.0, -INF, 2.0]


def test_a_method_is_the_mean_of_its_seeds(tmp_path):
    make_run(tmp_path / "a0", [1, 2, 4], dataset=DATASET)
    make_run(tmp_path / "a1", [1, 4, 4], dataset=DATASET, seed=1, seconds_a_step=1800.0)
    (curve,) = compare(tmp_path, 0.7).methods
    assert curve.mean_accuracy().tolist() == [0.25, 0.75, 1.0]
    # Device-hours: 1 + (0.5 + 1) / 2 and 1 + (1 + 2) / 2; hours: 1 + (0.25 + 0.5) / 2 and 1 + (0.5 + 1) / 2.
    assert curve.mean_hours("device").tolist() == [0.0, 1.75, 2.5]
    assert curve.mean_hours("wall").tolist() == [0.0, 1.375, 1.75]


def test_time_ratio_and_break_even_of_runs(tmp_path):
    make_run(tmp_path / "fpa", [1, 3, 4], dataset=DATASET)
    make_run(tmp_path / "grpo", [1, 1, 3], recipe="grpo_baseline")
    found = compare(tmp_path, 0.75, 1.0)
    assert found.against.name == "grpo_baseline"
    fpa = time_of(found, "fpa_offline", 0.75)
    # 1 + 0.5 device-hours and 1 + 0.25 hours, against 1 and 0.5.
    assert (fpa.hours["device"].value, fpa.hours["wall"].value) == (1.5, 1.25)
    assert fpa.ratio.value == pytest.approx(1 / 1.5)
    assert fpa.wall_ratio.value == pytest.approx(0.5 / 1.25)
    # 1 / N + 0.5 <= 1 from N = 2 on.
    assert fpa.break_even.value == 2
    everything = time_of(found, "fpa_offline", 1.0)
    assert everything.hours["device"].value == 2.0
    assert everything.ratio.value == INF
    # The online run has 3 of 4 problems right: it gets there where the fourth is not drawn, (3/4)^4.
    assert everything.ratio.share == pytest.approx(81 / 256, abs=0.04)
    assert np.isnan(everything.break_even.value)
    assert time_of(found, "grpo_baseline", 1.0).hours["device"].value == INF


def test_never_is_said(tmp_path):
    make_run(tmp_path / "fpa", [1, 4], dataset=DATASET)
    make_run(tmp_path / "grpo", [1, 4], recipe="grpo_baseline")
    found = compare(tmp_path, 1.0)
    # A run costs 0.5 device-hours either way, and the dataset on top.
    assert time_of(found, "fpa_offline", 1.0).break_even.value == INF
    assert wallclock_tables.reuse_table(found).rows[0][:5] == ["fpa_offline", "100", "1.50", "0.60", "never"]
    (fpa,) = (method for method in found.as_json()["methods"] if method["method"] == "fpa_offline")
    assert fpa["targets"][0]["break_even_runs"]["never"] is True


def test_share_of_replicates_over_seeds(tmp_path):
    # One seed goes from nothing to everything, the other stays: of two seeds drawn, 1/4 are both the first.
    for seed, last in enumerate((4, 0)):
        make_run(tmp_path / f"a{seed}", [0, last], seed=seed)
    found = compare(tmp_path, 0.5, 0.9)
    half, most = (time_of(found, "fpa_offline", target).hours["device"] for target in (0.5, 0.9))
    assert (half.value, most.value) == (0.5, INF)
    # 2,000 replicates: standard error sqrt(3/16 / 2000) = 0.01.
    assert half.share == pytest.approx(3 / 4, abs=0.04)
    assert most.share == pytest.approx(1 / 4, abs=0.04)
    assert (most.low, most.high) == (0.5, INF)


def test_share_of_replicates_over_problems_of_one_seed(tmp_path):
    make_run(tmp_path / "a", [0, 2])
    hours = time_of(compare(tmp_path, 0.5), "fpa_offline", 0.5).hours["device"]
    # Of 4 problems drawn, 2 or more are among the two right ones: 1 - (1 + 4) / 16 = 11/16.
    assert hours.share == pytest.approx(11 / 16, abs=0.04)
    lower, upper = compare(tmp_path, 0.5).band(0)
    # Binomial(4, 1/2) / 4: 0 and 4 have 1/16 each, more than 2.5 %.
    assert (lower[1], upper[1]) == (0.0, 1.0)


def test_methods_share_the_problems_drawn(tmp_path):
    # Both have the same two problems right, so no replicate sets them apart.
    for name in ("a", "b"):
        make_run(tmp_path / name, [0, 2], recipe=name)
    found = compare(tmp_path, 0.5, against="a")
    told = time_of(found, "b", 0.5).ratio
    # Where neither of the two is drawn often enough, the ratio may be anything.
    assert (told.value, told.low, told.high) == (1.0, 0.0, INF)
    assert told.share == pytest.approx(11 / 16, abs=0.04)


def test_methods_that_every_replicate_takes_there_together_differ_in_none(tmp_path):
    for name in ("a", "b"):
        make_run(tmp_path / name, [0, 4], recipe=name)
    told = time_of(compare(tmp_path, 0.5, against="a"), "b", 0.5).ratio
    assert (told.value, told.low, told.high, told.share) == (1.0, 1.0, 1.0, 1.0)


def test_the_same_runs_give_the_same_intervals(tmp_path):
    for seed, last in enumerate((4, 1)):
        make_run(tmp_path / f"a{seed}", [0, 2, last], seed=seed)
    assert compare(tmp_path, 0.5).as_json() == compare(tmp_path, 0.5).as_json()


def test_seeds_count_where_all_of_them_were_evaluated(tmp_path):
    make_run(tmp_path / "a0", [1, 2, 4])
    make_run(tmp_path / "a1", [1, 2], seed=1, finished=False)
    found = compare(tmp_path, 0.5)
    assert found.methods[0].steps.tolist() == [0, 1]
    assert "fpa_offline: 2 of 3 evaluations were made by all its seeds" in found.notes()
    assert "Budgets differ: a0 made 2 steps, a1 made 1 steps" in found.notes()


def test_an_evaluation_that_measured_nothing_is_a_gap(tmp_path):
    run = make_run(tmp_path / "a", [1, 2])
    for step in (2, 3):
        record = {"kind": "step", "time": 0, "attempt": 1, "step": step, "seconds": {"training": 900.0}}
        append_json_line(run / "ledger.jsonl", record)
    record_evaluation(run, attempt=1, step=2, problems={"toy": {"p0": [0, 0]}}, asked_for={"toy": 2})
    record_evaluation(run, attempt=1, step=3, problems={"toy": {"p0": [2, 2]}})
    (curve,) = compare(tmp_path, 0.9).methods
    assert np.isnan(curve.mean_accuracy()[2])
    assert curve.mean_accuracy()[3] == 1.0
    assert compare(tmp_path, 0.9).curves[0].best.step == 3


def test_data_of_unknown_cost_has_no_break_even(tmp_path):
    make_run(tmp_path / "fpa", [1, 4], dataset={"fingerprint": "d", "device_seconds": 0.0, "cost": {}})
    make_run(tmp_path / "grpo", [1, 4], recipe="grpo_baseline")
    found = compare(tmp_path, 1.0)
    assert time_of(found, "fpa_offline", 1.0).break_even is None
    assert wallclock_tables.method_table(found).rows[0][6] == "?"
    assert any("imported" in note for note in found.notes())


def test_nobody_pays_for_what_the_base_model_can(tmp_path):
    make_run(tmp_path / "fpa", [2, 4], dataset=DATASET)
    make_run(tmp_path / "grpo", [2, 4], recipe="grpo_baseline")
    time = time_of(compare(tmp_path, 0.5), "fpa_offline", 0.5)
    assert time.hours["device"].value == 0.0
    assert np.isnan(time.ratio.value)
    assert np.isnan(time.break_even.value)


def test_against_names_the_method_to_measure_by(tmp_path):
    make_run(tmp_path / "fpa", [1, 4], dataset=DATASET)
    make_run(tmp_path / "off", [1, 4], recipe="off_rl", dataset=DATASET)
    assert compare(tmp_path, 1.0).against.name == "fpa_offline"
    assert compare(tmp_path, 1.0, against="off_rl").against.name == "off_rl"
    with pytest.raises(DatasetError, match="choose --against from fpa_offline, off_rl"):
        compare(tmp_path, 1.0, against="dpo")
