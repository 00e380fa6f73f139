"""The search against what is worked out by hand, against itself written another way, and against full enumeration."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpa_verl.errors import ConfigError
from fpa_verl.rollouts.schema import CUT_OFF, ENDED
from fpa_verl.trees import SearchSettings, Step, Tree, TreeSearch, in_flight
from fpa_verl.trees.driver import Answer, Request, advance, generator_of
from fpa_verl.trees.tree import DELIMITED, OPEN, ROOT, TOO_DEEP
from tests.trees.toy import (
    NOTES,
    PROMPT,
    TWO,
    Complete,
    Drawn,
    Endless,
    Known,
    Marks,
    Toy,
    counts,
    number_of,
    problem,
    searched,
    toys,
)

# ---- by hand ------------------------------------------------------------------------------------


def test_t1_backup():
    tree = searched(NOTES, TWO)
    # Every expansion backs up V = 0, every end its outcome.
    assert counts(tree) == {
        "": (11, -2),
        "A": (5, -1),
        "A1": (3, 0),
        "A2": (1, -1),
        "A11": (1, 1),
        "A12": (1, -1),
        "B": (5, -1),
        "B1": (1, -1),
        "B2": (3, 0),
        "B21": (1, 1),
        "B22": (1, -1),
    }
    # Root, A, B, A1, B2: children hang in the order of the expansions.
    assert [node.text for node in tree.nodes[1:]] == ["A", "B", "A1", "A2", "B1", "B2", "A11", "A12", "B21", "B22"]


def test_t2_the_authors_early_stop():
    tree = searched(NOTES, SearchSettings(children=2, simulations=100, stop_at_exhausted=True))
    found = counts(tree)
    assert (found[""], found["B"], found["B2"]) == ((8, -2), (2, -1), (0, 0))
    assert "B21" not in found


def test_an_empty_selection_is_no_simulation():
    """T1 takes five expansions; the two empty selections before the last of them cost nothing."""
    assert counts(searched(NOTES, SearchSettings(children=2, simulations=5))) == counts(searched(NOTES, TWO))
    assert counts(searched(NOTES, SearchSettings(children=2, simulations=4)))["B2"] == (0, 0)


def test_v_of_the_leaf_is_backed_up_once():
    values = Known(NOTES, {"": 0.25, "A": 0.5, "B": -0.5, "A1": 0.0, "B2": 0.0})
    tree = searched(NOTES, SearchSettings(children=2, simulations=2), values=values)
    # Root .25, then A .5 and its wrong end.
    assert counts(tree)[""] == (3, 0.25 + 0.5 - 1)
    assert counts(tree)["A"] == (2, 0.5 - 1)
    assert counts(tree)["A1"] == (0, 0)


def test_the_prior_is_the_exponential_of_the_mean_log_prob():
    assert Step((1, 2), (math.log(0.5), math.log(0.125)), "", DELIMITED).prior == pytest.approx(0.25)
    tree = searched(NOTES, TWO)
    assert [tree.nodes[number_of(tree, name)].prior for name in ("A", "A11")] == pytest.approx([0.6, 0.7])


def test_a_scorer_that_failed_says_nothing():
    tree = searched(NOTES, TWO, judge=Marks(NOTES, failed=frozenset({"A2"})))
    found = counts(tree)
    assert (found["A2"], found["A"], found[""]) == ((0, 0), (4, 0), (10, -1))
    assert tree.nodes[number_of(tree, "A2")].outcome is None


# ---- what is broken off -------------------------------------------------------------------------


def test_steps_that_never_end_are_wrong_and_are_not_scored():
    tree = searched(NOTES, TWO, sampler=Endless(cut_off=True))
    assert [(node.end, node.status, node.outcome) for node in tree.nodes[1:]] == [(CUT_OFF, "no_answer", -1)] * 2
    assert counts(tree)[""] == (3, -2)


def test_a_step_below_the_deepest_is_wrong():
    tree = searched(NOTES, SearchSettings(children=1, depth=3, simulations=100), sampler=Endless())
    assert [(node.depth, node.end) for node in tree.nodes] == [
        *((depth, OPEN) for depth in range(4)),
        (4, TOO_DEEP),
    ]
    assert [node.outcome for node in tree.nodes] == [None] * 4 + [-1]


def test_a_solution_that_ends_below_the_deepest_is_scored():
    tree = searched(NOTES, SearchSettings(children=2, depth=2, simulations=100))
    assert tree.nodes[number_of(tree, "A11")].outcome == 1


def test_a_solution_without_room_is_wrong():
    sampler = Endless()
    limits = SearchSettings(children=1, depth=50, simulations=100, max_step_tokens=3, max_response_tokens=6)
    tree = searched(NOTES, limits, sampler=sampler)
    # Six tokens are three steps of two, of which the last leaves no room for another.
    assert [node.end for node in tree.nodes] == [OPEN, OPEN, OPEN, CUT_OFF]
    assert sampler.limits == [3, 3, 2]


def test_identical_steps_are_children_of_their_own_or_dropped():
    kept = searched(NOTES, SearchSettings(children=4, simulations=1))
    dropped = searched(NOTES, SearchSettings(children=4, simulations=1, drop_identical=True))
    assert [node.text for node in kept.nodes[1:]] == ["A", "B", "A", "A"]
    assert [node.text for node in dropped.nodes[1:]] == ["A", "B"]
    assert kept.sampled_tokens == dropped.sampled_tokens == 4


def test_a_tree_that_is_exhausted_asks_for_nothing():
    sampler = Complete(NOTES)
    searched(NOTES, SearchSettings(children=2, simulations=1000), sampler=sampler)
    assert sampler.asked == 5


@pytest.mark.parametrize("key", ["simulations", "children", "depth", "trees", "max_step_tokens"])
def test_settings_out_of_bounds_are_named(key):
    with pytest.raises(ConfigError, match=f"tree.{key}=0: a whole number of at least 1"):
        SearchSettings(**{key: 0})


def test_a_search_without_a_judge_is_refused():
    with pytest.raises(ValueError, match="needs a judge"):
        asyncio.run(advance(TreeSearch(TWO, problem(), PROMPT), Complete(NOTES)))


@pytest.mark.parametrize("log_probs", [(), (-0.1, -0.2)])
def test_a_step_without_a_log_prob_for_each_token_is_refused(log_probs):
    with pytest.raises(ValueError, match="one a token"):
        Step((1,), log_probs, "", DELIMITED)


def test_a_value_beyond_1_is_refused():
    with pytest.raises(ValueError, match="between -1 and 1"):
        searched(NOTES, TWO, values=Known(NOTES, dict.fromkeys(["", "A", "B"], 1.5)))


# ---- ties ---------------------------------------------------------------------------------------

EVEN = Toy(
    below={"": dict.fromkeys("ABCD", 0.25), **{name: {f"{name}1": 1.0} for name in "ABCD"}}, right=frozenset({"A1"})
)


def test_ties_are_broken_by_the_trees_own_seed():
    def second(number: int, seed: int = 0) -> str:
        tree = searched(EVEN, SearchSettings(children=4, simulations=2, seed=seed), number=number)
        return next(node.text for node in tree.nodes[1:] if node.visits)

    firsts = [second(number) for number in range(40)]
    assert firsts == [second(number) for number in range(40)]
    assert set(firsts) == set("ABCD")
    assert firsts != [second(number, seed=1) for number in range(40)]


# ---- written another way ------------------------------------------------------------------------


def written_anew(toy: Toy, *, simulations: int, c: float, ties: random.Random, values: dict[str, float]):
    """(N, W) of every step by name: with dictionaries and recursion, on all children that there are."""
    visits, totals, closed, expanded = {"": 0}, {"": 0.0}, set(), set()

    def up(name: str, value: float) -> None:
        for length in range(len(name) + 1):
            visits[name[:length]] = visits.get(name[:length], 0) + 1
            totals[name[:length]] = totals.get(name[:length], 0.0) + value

    def select(name: str) -> str | None:
        if name not in expanded:
            return name
        scores = {
            child: (totals[child] / visits[child] if visits[child] else 0)
            + c * math.sqrt(visits[name]) * toy.step(child, probability).prior / (1 + visits[child])
            for child, probability in toy.below[name].items()
            if child not in closed
        }
        if not scores:
            closed.add(name)
            return None
        best = [child for child, score in scores.items() if score == max(scores.values())]
        return select(best[0] if len(best) == 1 else ties.choice(best))

    done = 0
    while done < simulations and "" not in closed:
        if (leaf := select("")) is None:
            continue
        expanded.add(leaf)
        for child in toy.below[leaf]:
            visits[child], totals[child] = 0, 0.0
            if child not in toy.below:
                closed.add(child)
                up(child, 1.0 if child in toy.right else -1.0)
        up(leaf, values[leaf])
        done += 1
    return {name: (visits[name], totals[name]) for name in visits}


class Whole:
    """Search of a toy whose every expansion has the children that there are."""

    def __init__(self, toy: Toy, search: SearchSettings, values: dict[str, float], number: int = 0) -> None:
        self.toy, self.values, self.machine = toy, values, TreeSearch(search, problem(), PROMPT, number)

    def tree(self) -> Tree:
        while requests := self.machine.wanted():
            self.machine.take([self._answer(request) for request in requests])
        return self.machine.tree

    def _answer(self, request: Request) -> Answer:
        name = self.toy.name(request.response_ids)
        steps = tuple(self.toy.step(*one) for one in self.toy.below[name].items())
        statuses = [("right" if step.text in self.toy.right else "wrong") for step in steps]
        return Answer(
            steps,
            tuple(None if s.text in self.toy.below else one for s, one in zip(steps, statuses, strict=True)),
            self.values[name],
        )


@given(st.data(), toys(), st.integers(1, 30), st.sampled_from([0.0, 0.5, 1.25, 3.0]))
def test_it_is_the_search_written_anew(data, toy, simulations, c):
    values = {name: data.draw(st.floats(-1, 1)) for name in toy.below}
    search = SearchSettings(children=3, simulations=simulations, c=c, depth=9)
    expected = written_anew(
        toy, simulations=simulations, c=c, ties=generator_of(0, problem().problem_id, 0), values=values
    )
    found = counts(Whole(toy, search, values).tree())
    assert found == {name: (visits, pytest.approx(total)) for name, (visits, total) in expected.items()}


# ---- against full enumeration -------------------------------------------------------------------


@given(toys())
def test_a_search_to_the_end_counts_every_solution_once(toy):
    """Whatever the order: N is the solutions and the expansions below a node, W the sum of their outcomes."""

    def below(name: str) -> tuple[int, float]:
        if name not in toy.below:
            return 1, toy.true_value(name)
        parts = [below(child) for child in toy.below[name]]
        return 1 + sum(visits for visits, _ in parts), sum(total for _, total in parts)

    tree = Whole(toy, SearchSettings(children=3, simulations=10_000, depth=9), dict.fromkeys(toy.below, 0.0)).tree()
    assert counts(tree) == {name: below(name) for name in ["", *toy.names]}


def test_t4_the_searchs_q_is_not_the_policys():
    assert [NOTES.true_value(name) for name in ("A1", "A", "B2", "B", "")] == pytest.approx([0.4, -0.3, 0, -0.8, -0.5])
    tree = searched(NOTES, TWO)
    assert [tree.nodes[number_of(tree, name)].q for name in "AB"] == [-0.2, -0.2]


def test_t4_plain_rollouts_converge_to_the_policys():
    """A tree of one child a node is one roll-out; V = 0 is no part of the mean of its ends."""
    rollouts, search = 2000, SearchSettings(children=1)
    searches = [TreeSearch(search, problem(), PROMPT, number) for number in range(rollouts)]

    async def run() -> list[Tree]:
        return [one.tree async for one in in_flight(searches, Drawn(NOTES), Marks(NOTES), at_once=100)]

    ends = asyncio.run(run())
    outcomes = [tree.nodes[-1].outcome for tree in ends]
    # Standard error of a mean of +-1 around -.5: .019.
    assert sum(outcomes) / rollouts == pytest.approx(-0.5, abs=0.06)
    of_a = [tree.nodes[-1].outcome for tree in ends if tree.nodes[1].text == "A"]
    assert sum(of_a) / len(of_a) == pytest.approx(-0.3, abs=0.08)


# ---- many at once -------------------------------------------------------------------------------

MANY = SearchSettings(children=3, simulations=6, trees=8)


async def _together(names: Sequence[str], at_once: int, waits: int | None) -> dict[tuple[str, int], Tree]:
    random_waits = None if waits is None else random.Random(waits)
    searches = [TreeSearch(MANY, problem(name), PROMPT, number) for name in names for number in range(MANY.trees)]
    ended = in_flight(searches, Drawn(NOTES, random_waits), Marks(NOTES), at_once=at_once)
    return {(search.tree.problem_id, search.tree.number): search.tree async for search in ended}


@settings(max_examples=10)
@given(st.integers(2, 30), st.integers(0, 10**6))
def test_trees_together_are_trees_one_at_a_time_visit_for_visit(at_once, waits):
    names = [f"p{place}" for place in range(5)]
    alone = asyncio.run(_together(names, 1, None))
    together = asyncio.run(_together(names, at_once, waits))
    assert together == alone
    assert len({tuple(node.text for node in tree.nodes) for tree in alone.values()}) > 20


def test_so_many_are_under_way_and_no_more():
    class Counting(Drawn):
        open, most = 0, 0

        async def steps(self, request: Request) -> list[Step]:
            self.open += 1
            self.most = max(self.most, self.open)
            await asyncio.sleep(0.001)
            self.open -= 1
            return await super().steps(request)

    async def run() -> tuple[int, int]:
        sampler = Counting(NOTES)
        searches = [TreeSearch(MANY, problem(), PROMPT, number) for number in range(20)]
        return len([one async for one in in_flight(searches, sampler, Marks(NOTES), at_once=7)]), sampler.most

    assert asyncio.run(run()) == (20, 7)


def test_a_search_that_misses_a_step_is_left_out_and_the_others_go_on():
    class Failing(Drawn):
        async def steps(self, request: Request) -> list[Step]:
            found = await super().steps(request)
            return found[:-1] if request.problem.problem_id == "p1" and request.response_ids else found

    async def run() -> list[str]:
        searches = [TreeSearch(MANY, problem(name), PROMPT) for name in ("p0", "p1", "p2")]
        ended = in_flight(searches, Failing(NOTES), Marks(NOTES), at_once=3)
        return sorted([search.tree.problem_id async for search in ended])

    assert asyncio.run(run()) == ["p0", "p2"]


def test_what_a_sampler_raises_comes_through():
    class Broken(Drawn):
        async def steps(self, request: Request) -> list[Step]:
            raise OSError("no server")

    async def run() -> None:
        async for _ in in_flight([TreeSearch(MANY, problem(), PROMPT)], Broken(NOTES), Marks(NOTES), at_once=2):
            pass

    with pytest.raises(OSError, match="no server"):
        asyncio.run(run())


def test_searches_that_end_together_with_one_that_raises_are_handed_out_before_it_is_raised(monkeypatch):
    """They are paid for."""

    async def advance(search: TreeSearch, *_: object) -> bool:
        if search.tree.problem_id == "p0":
            raise OSError("no server")
        return True

    monkeypatch.setattr("fpa_verl.trees.driver.advance", advance)
    ended = []

    async def run() -> None:
        searches = [TreeSearch(MANY, problem(name), PROMPT) for name in ("p0", "p1", "p2")]
        async for search in in_flight(searches, Drawn(NOTES), Marks(NOTES), at_once=3):
            ended.append(search.tree.problem_id)  # noqa: PERF401 -- what came before the error is wanted

    with pytest.raises(OSError, match="no server"):
        asyncio.run(run())
    assert ended == ["p1", "p2"]


def test_requests_say_what_they_are_of():
    search = TreeSearch(MANY, problem(), PROMPT)
    (first,) = search.wanted()
    assert (first.prefix_ids, first.n, first.temperature) == (PROMPT, 3, 1.0)
    assert search.wanted() == [first]
    assert TreeSearch(MANY, problem(), PROMPT, number=1).wanted()[0].seed != first.seed
    steps = tuple(NOTES.step(name, 0.5) for name in ("A", "B", "B"))
    search.take([Answer(steps, (None, None, None))])
    (second,) = search.wanted()
    assert second.prefix_ids == (*PROMPT, NOTES.token("A")) or second.prefix_ids == (*PROMPT, NOTES.token("B"))
    assert second.seed != first.seed


def test_a_root_is_its_own_tree_before_anything_came():
    tree = TreeSearch(MANY, problem(), PROMPT).tree
    assert (len(tree.nodes), tree.nodes[ROOT].visits, tree.prompt_ids) == (1, 0, PROMPT)
    assert tree.steps_to(ROOT) == []
    assert Step((1,), (-1.0,), "x", ENDED).ends_solution
