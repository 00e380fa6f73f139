"""Intervals against bounds, parts put together, and the margins of the paper's statements."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpa_verl.commands import Command
from fpa_verl.errors import ConfigError
from fpa_verl.evaluation.seeds import StudentT
from fpa_verl.report.claims.effects import EFFECTS, Effect, measure
from fpa_verl.report.claims.statements import Part, Statement, command, paper_statements
from fpa_verl.report.claims.verdict import Verdict, conjunction, corrected_level, of_part, side
from fpa_verl.report.comparisons import claims
from fpa_verl.runs.find import find_runs
from tests.report.claim_runs import OFF_RL, WITH_KL, ahead, decided, make

HOLDS, FAILS, UNDECIDED, NOT_RUN = Verdict

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
    for method, training in (("off_rl", OFF_RL), ("off_rl_kl", WITH_KL)):
        make(tmp_path, method, 300, 500, of=1000, waver=[0] * 5, training=training)
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


@pytest.mark.parametrize("statement", paper_statements(), ids=lambda one: one.name)
def test_commands_name_recipes_that_there_are(statement):
    recipes = Path(__file__).parents[2] / "recipes" / "recipe"
    for part in statement.parts:
        for method in filter(None, (part.method, part.against)):
            words = command(method, part.lam, [0]).split()
            (recipe,) = (word.removeprefix("recipe=") for word in words if word.startswith("recipe="))
            assert (recipes / f"{recipe}.yaml").exists()
            # A report finds the runs under the method's name.
            assert recipe == method


def test_a_command_to_type_is_made_of_one_that_was_recorded():
    typed = (
        "python -m verl.trainer.main --config-dir 'my recipes' recipe=grpo_baseline task=words data.seed=3 run_dir=r"
    )
    assert command("off_rl", None, [0, 4], Command.read(typed)) == (
        "python -m verl.trainer.main -m --config-dir 'my recipes' recipe=off_rl task=words "
        "actor_rollout_ref.actor.policy_loss.track_reference=true data.seed=0,4"
    )
