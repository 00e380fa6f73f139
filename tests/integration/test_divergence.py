from __future__ import annotations

import pytest

from fpa_verl.errors import ConfigError, DivergenceError
from fpa_verl.integration.safety.divergence import (
    RIGHT_WEIGHT,
    TOO_COARSE,
    CoarseCacheWatch,
    CollapseRule,
    CollapseWatch,
    require_finite_loss,
)


def seen(watch, weights, start=1):
    return {
        step: said for step, weight in enumerate(weights, start) if (said := watch.see(step, {RIGHT_WEIGHT: weight}))
    }


def test_a_collapse_is_said_once_at_the_step_where_the_mean_falls_under_the_floor():
    # First window: 0.9. Means of the last two: 0.9 at step 4, 0.65 (72 %) at step 5, 0.4 (44 %) at step 6.
    said = seen(CollapseWatch(CollapseRule(window=2, floor=0.5), {}), [0.9, 0.9, 0.9, 0.9, 0.4, 0.4, 0.1])
    assert list(said) == [6]
    assert "is 44% of what it was at first" in said[6]


def test_what_falls_less_or_comes_back_is_no_collapse():
    rule = CollapseRule(window=2, floor=0.5)
    assert not seen(CollapseWatch(rule, {}), [0.9, 0.9, 0.5, 0.5, 0.45, 0.46, 0.9])
    assert not seen(CollapseWatch(rule, {}), [0.9, 0.9, 0.9, 0.1, 0.9, 0.9])


def test_too_few_steps_and_batches_without_right_trajectories_say_nothing():
    watch = CollapseWatch(CollapseRule(window=2), {})
    assert not seen(watch, [0.9, 0.9, 0.1])
    assert watch.see(4, {"dynamics/wrong/policy_weight": 0.1}) is None


def test_what_falls_within_the_first_window_is_seen():
    """Over the mean of the first ten steps, 0.75, the last are 60 %, and not under the floor."""
    weights = [*[0.9] * 5, *[0.6] * 5, *[0.45] * 10]
    said = seen(CollapseWatch(CollapseRule(window=10, floor=0.6), {}), weights)
    assert list(said) == [15]


def test_a_resumed_run_is_held_to_its_own_beginning():
    watch = CollapseWatch(CollapseRule(window=2), {1: 0.9, 2: 0.9})
    assert list(seen(watch, [0.4, 0.4], start=3)) == [4]


def test_the_rule_can_stop_the_run_or_be_silent():
    with pytest.raises(DivergenceError, match="step 4: right trajectories have lost"):
        seen(CollapseWatch(CollapseRule("stop", window=2), {}), [0.9, 0.9, 0.4, 0.4])
    assert not seen(CollapseWatch(CollapseRule("ignore", window=2), {}), [0.9, 0.9, 0.1, 0.1])


@pytest.mark.parametrize("values", [{"action": "end"}, {"window": 0}, {"window": 2.5}, {"floor": 0.0}, {"floor": 1.0}])
def test_values_out_of_bounds(values):
    with pytest.raises(ConfigError, match=f"collapse.{next(iter(values))}="):
        CollapseRule(**values)


def test_a_loss_that_is_no_number_names_its_step():
    require_finite_loss(3, {"actor/pg_loss": 0.5})
    require_finite_loss(3, {})
    with pytest.raises(DivergenceError, match="actor/kl_loss is inf"):
        require_finite_loss(3, {"actor/pg_loss": 0.1, "actor/kl_loss": float("inf")})
    with pytest.raises(DivergenceError, match="step 3: actor/pg_loss is nan"):
        require_finite_loss(3, {"actor/pg_loss": float("nan")})


def test_a_reference_cache_that_has_become_too_coarse_is_warned_of_once():
    watch = CoarseCacheWatch(samples=32)
    for metrics in ({}, {"actor/cache_error": TOO_COARSE}):
        assert watch.see(7, metrics) is None
    warnings = [watch.see(7, {"actor/cache_error": 2 * TOO_COARSE}) for _ in range(2)]
    assert warnings[1] is None
    assert "step 7: " in warnings[0]
    assert "more reference.samples than 32" in warnings[0]


def test_a_short_run_can_tell_as_well():
    """Of 30 steps a window of 20 would never have two."""
    for total_steps, told in ((30, True), (None, False)):
        watch = CollapseWatch(CollapseRule(), {}, total_steps)
        found = [watch.see(step, {RIGHT_WEIGHT: 1.0 if step <= 7 else 0.1}) for step in range(1, 31)]
        assert bool([line for line in found if line and "mean of 7 steps" in line]) is told
