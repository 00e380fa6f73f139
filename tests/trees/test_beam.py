"""Step-level beam search on a toy, and what a value function that errs costs."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import given

from fpa_verl.trees import BeamSearch, BeamSettings, Step, advance, in_flight
from fpa_verl.trees.driver import Request
from tests.trees.toy import NOTES, PROMPT, Complete, Drawn, Endless, Known, Toy, problem, toys

EXACT = {name: NOTES.best_value(name) for name in ["", *NOTES.names]}


def decoded(toy: Toy, values: dict[str, float], settings: BeamSettings, sampler=None) -> BeamSearch:
    search = BeamSearch(settings, problem(), PROMPT)
    assert asyncio.run(advance(search, sampler or Complete(toy), values=Known(toy, values)))
    return search


def names(search: BeamSearch) -> list[str]:
    return [beam.steps[-1].text for beam in search.finished]


def found(search: BeamSearch) -> str | None:
    return search.best.steps[-1].text if search.best else None


class Wide(Complete):
    """All steps that there are, the last once more where more are asked for."""

    async def steps(self, request: Request) -> list[Step]:
        steps = await super().steps(replace(request, n=100))
        distinct = list(dict.fromkeys(steps))
        return (distinct + distinct[-1:] * request.n)[: request.n]


# ---- by hand ------------------------------------------------------------------------------------


def test_t8_the_exact_value_leads_to_a_right_solution():
    search = decoded(NOTES, EXACT, BeamSettings(width=1, samples=2))
    assert found(search) in NOTES.right


@given(toys())
def test_t8_of_any_tree(toy):
    """B1 = 1 with all children finds a right solution wherever there is one."""
    exact = {name: toy.best_value(name) for name in ["", *toy.names]}
    search = decoded(toy, exact, BeamSettings(width=1, samples=3, depth=9), Wide(toy))
    assert (found(search) in toy.right) == (exact[""] == 1)


def test_t8_a_value_that_errs_at_one_depth():
    """Only A leads to a right solution, and V has A and B the wrong way round."""
    toy = Toy(NOTES.below, frozenset({"A11"}))
    values = {name: toy.best_value(name) for name in ["", *toy.names]}
    erring = {**values, "A": values["B"], "B": values["A"]}
    assert found(decoded(toy, values, BeamSettings(width=1, samples=2))) == "A11"
    assert found(decoded(toy, erring, BeamSettings(width=1, samples=2))) in {"B1", "B21", "B22"}
    assert found(decoded(toy, erring, BeamSettings(width=2, samples=2))) == "A11"


def test_the_beam_is_narrower_by_what_has_ended():
    values = {"A": 0.8, "B": 0.9, "A1": 0.72, "A2": 0.7, "B1": 0.75, "B2": 0.4, "A11": 0.3, "A12": 0.2}
    search = decoded(NOTES, values, BeamSettings(width=3, samples=2))
    # Of A, B, A, A, A, A are kept B, A, A; of the six behind them B1, A1, A1, of which B1 ends: two places are left.
    assert names(search) == ["B1", "A11", "A11"]
    assert search.generated_tokens == 6 + 3 * 2 + 2 * 2
    assert found(search) == "B1"


def test_identical_candidates_may_count_once():
    """Only A leads to a right solution, and V prefers B, which is drawn three times of four."""
    toy = Toy(NOTES.below, frozenset({"A11"}))
    values = {name: toy.best_value(name) for name in ["", *toy.names]}
    erring = {**values, "A": values["B"], "B": values["A"]}
    settings = BeamSettings(width=2, samples=2)
    alike = decoded(toy, erring, settings, Wide(toy))
    apart = decoded(toy, erring, replace(settings, drop_identical=True), Wide(toy))
    assert found(alike) in {"B1", "B21", "B22"}
    assert found(apart) == "A11"
    # What is dropped was sampled all the same.
    assert apart.generated_tokens >= 4


def test_what_is_cut_off_or_too_deep_takes_its_place_with_it_and_is_no_answer():
    for settings, sampler in (
        (BeamSettings(width=2, samples=2), Endless(cut_off=True)),
        (BeamSettings(width=2, samples=2, depth=2), Endless()),
    ):
        search = BeamSearch(settings, problem(), PROMPT)
        assert asyncio.run(advance(search, sampler))
        assert search.finished == []
        assert search.best is None


def test_greedy_is_one_sample_behind_one_prefix():
    class Likeliest(Drawn):
        async def steps(self, request: Request) -> list[Step]:
            assert (request.n, request.temperature) == (1, 0)
            children = self.toy.below[self.toy.name(request.response_ids)]
            return [self.toy.step(name := max(children, key=children.__getitem__), children[name])]

    search = BeamSearch(BeamSettings(width=1, samples=1, temperature=0), problem(), PROMPT)
    assert asyncio.run(advance(search, Likeliest(NOTES)))
    assert (names(search), search.generated_tokens) == (["A11"], 3)


# ---- by probabilities ---------------------------------------------------------------------------


def test_how_often_it_is_right_is_what_enumeration_says():
    """B1 = 1, B2 = n with the exact value: a step is missed where all n draws miss it."""
    draws, problems = 2, 1000
    searches = [
        BeamSearch(BeamSettings(width=1, samples=draws), problem(f"p{place}"), PROMPT) for place in range(problems)
    ]
    # Of equal values the first draw: A and B both lead to a right end.
    through_a = 0.6 * (1 - 0.5**draws) * (1 - 0.3**draws)
    through_b = 0.4 * (1 - 0.8**draws) * (1 - 0.5**draws)

    async def run() -> float:
        values, right = Known(NOTES, EXACT), 0
        async for search in in_flight(searches, Drawn(NOTES, random.Random(0)), values=values, at_once=50):
            right += found(search) in NOTES.right
        return right / problems

    # Standard error of a share near .52: .016.
    assert asyncio.run(run()) == pytest.approx(through_a + through_b, abs=0.05)


# ---- equal tokens -------------------------------------------------------------------------------
