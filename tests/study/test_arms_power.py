"""How well arms with several seeds are known, against numbers by hand and against simulated studies."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation.seeds import StudentT
from fpa_verl.runs.run import read_run
from fpa_verl.study.arms_power import ArmsPower, Known, Pair, chance, smallest
from fpa_verl.study.power import required
from tests.runs.directories import make_run


def arm(rng, accuracy, spread, seeds=3, problems=200, samples=4):
    """(S, P) shares of a simulated arm whose seeds lie `spread` apart."""
    of_seed = np.clip(accuracy + spread * rng.standard_normal((seeds, 1)), 0, 1)
    return rng.binomial(samples, np.broadcast_to(of_seed, (seeds, problems))) / samples


def test_the_chance_is_that_of_a_noncentral_t():
    of = StudentT(0.0, 0.01, 7.0)
    reach = stats.t.ppf(0.975, 7)
    assert chance(0.03, of) == pytest.approx(stats.nct.sf(reach, 7, 3) + stats.nct.cdf(-reach, 7, 3), rel=1e-6)
    assert chance(smallest(of), of) == pytest.approx(0.8, abs=1e-6)
    assert chance(0.0, of) == pytest.approx(0.05, abs=1e-9)
    for shift in (5, 10, 20, 50, 500):
        assert chance(0.01 * shift, StudentT(0.0, 0.01, 1500.0)) == pytest.approx(1.0, abs=2e-3)


def test_a_difference_that_is_said_to_be_seen_with_80_percent_is():
    rng, found, shown = np.random.default_rng(0), 0, []
    for _ in range(300):
        pair = Pair(Known("a", "s", arm(rng, 0.86, 0.01)), Known("b", "s", arm(rng, 0.80, 0.01)))
        low, high = pair.difference.interval()
        found += low > 0 or high < 0
        shown.append(pair.shows)
    # Not of the same strength as the true difference: the test's own power at 6 points says what to expect.
    expected = np.mean([chance(0.06, StudentT(0.0, s / smallest(StudentT(0.0, 1.0, 8.0)), 8.0)) for s in shown])
    assert found / 300 == pytest.approx(expected, abs=0.1)


def test_more_seeds_are_asked_for_where_seeds_lie_apart_and_none_help_where_problems_are_few():
    rng = np.random.default_rng(1)
    close = Pair(Known("a", "s", arm(rng, 0.8, 0.001)), Known("b", "s", arm(rng, 0.8, 0.001)))
    apart = Pair(Known("a", "s", arm(rng, 0.8, 0.05)), Known("b", "s", arm(rng, 0.8, 0.05)))
    assert close.seeds_needed(0.08) < apart.seeds_needed(0.08)
    few = Pair(Known("a", "s", arm(rng, 0.5, 0.0, problems=8)), Known("b", "s", arm(rng, 0.5, 0.0, problems=8)))
    assert few.seeds_needed(0.01) is None


def test_so_many_seeds_as_are_said_to_be_needed_are_what_it_takes():
    """Of problems that gain differently, one answer each: the noise of decoding shrinks with the seeds."""
    rng = np.random.default_rng(2)

    def study(seeds):
        solved, gains = rng.normal(0.6, 0.2, 400), rng.normal(0.06, 0.2, 400)
        chances = [np.clip(solved + gain + 0.02 * rng.standard_normal((seeds, 1)), 0, 1) for gain in (gains, 0 * gains)]
        return Pair(*(Known(name, "s", rng.binomial(1, one) / 1.0) for name, one in zip("ab", chances, strict=True)))

    def power(seeds):
        return sum(study(seeds).difference.interval()[0] > 0 for _ in range(200)) / 200

    large = [study(40) for _ in range(12)]
    true = float(np.mean([one.difference.value for one in large]))
    needed = sorted(one.seeds_needed(true) for one in large)[6]
    assert power(needed) == pytest.approx(0.8, abs=0.1)
    assert power(needed // 2) < 0.72
    # Three seeds say it roughly, and the interval says how roughly.
    told = [study(3).seeds_needed_between(true) for _ in range(60)]
    holds = [low is not None and low <= needed <= (high or math.inf) for low, high in told]
    assert sum(holds) / 60 > 0.7


def test_runs_that_are_not_at_their_end_are_left_out_by_name(tmp_path):
    runs = [
        read_run(make_run(tmp_path / f"{recipe}{seed}", [0, right], of=20, recipe=recipe, seed=seed))
        for recipe, rights in (("off_rl", (8, 9)), ("fpa_offline", (14, 15, 2)))
        for seed, right in enumerate(rights)
    ]
    runs[-1] = replace(runs[-1], spending=replace(runs[-1].spending, finished=False))
    found = required(0.03, runs, "toy")
    assert {one.name: len(one.shares) for one in found.known} == {"off_rl": 2, "fpa_offline": 2}
    assert any("fpa_offline2" in note for note in found.notes())
    with pytest.raises(DatasetError, match=r"too few finished runs.*fpa_offline2"):
        required(0.03, [replace(run, spending=replace(run.spending, finished=False)) for run in runs], "toy")


def test_runs_that_were_evaluated_before_training_alone_are_no_result_of_it(tmp_path):
    runs = [
        read_run(make_run(tmp_path / f"{recipe}{seed}", rights, of=20, recipe=recipe, seed=seed))
        for recipe in ("off_rl", "fpa_offline")
        for seed, rights in enumerate(([8, 9], [8, 10, 11], [8]))
    ]
    found = required(0.03, runs, "toy")
    assert {one.name: len(one.shares) for one in found.known} == {"off_rl": 2, "fpa_offline": 2}
    assert any("not evaluated: off_rl2, fpa_offline2" in note for note in found.notes())
    # A seed that stopped early counts, and a reader knows.
    assert any("different steps: off_rl0 at step 1, off_rl1 at step 2" in note for note in found.notes())


def test_several_seeds_of_several_methods_are_told_apart_over_seeds(tmp_path):
    runs = [
        read_run(make_run(tmp_path / f"{recipe}{seed}", [0, right], of=20, recipe=recipe, seed=seed))
        for recipe, rights in (("off_rl", (8, 9, 10)), ("fpa_offline", (14, 15, 16)))
        for seed, right in enumerate(rights)
    ]
    found = required(0.03, runs, "toy")
    assert isinstance(found, ArmsPower)
    rows = {row[0]: row for row in found.known_table().rows}
    assert rows["off_rl"][1:5] == ["toy", "20", "3", "45.0"]
    # Seeds at 40, 45 and 50 %: five points apart.
    assert rows["off_rl"][6] == "5.0"
    (pair,) = found.pairs
    assert pair.difference.value == pytest.approx(-0.30)
    assert found.as_json()["pairs"][0]["chance"] == pair.chance(0.03)
    # With one seed of a method nobody knows how far they lie apart.
    with pytest.raises(DatasetError, match="several seeds of each"):
        required(0.03, runs[:4], "toy")


def test_what_only_evaluates_is_no_arm(tmp_path):
    runs = [
        read_run(make_run(tmp_path / f"{recipe}{seed}", [0, right], of=20, recipe=recipe, seed=seed))
        for recipe in ("off_rl", "fpa_offline")
        for seed, right in enumerate((8, 9))
    ]
    base = read_run(make_run(tmp_path / "base", [5], of=20, recipe="evaluate", kind="evaluation"))
    found = required(0.03, [base, *runs], "toy")
    assert [one.name for one in found.known] == ["off_rl", "fpa_offline"]
