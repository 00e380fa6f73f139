"""Pairs, solutions, value targets and drawings of trees: the rules one by one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpa_verl.errors import ConfigError
from fpa_verl.rollouts.schema import ENDED
from fpa_verl.trees import PairRules, SearchSettings, SolutionRules, Tree, solutions, step_pairs, step_values
from fpa_verl.trees.drawing import draw
from fpa_verl.trees.tree import DELIMITED, RIGHT, WRONG, Step
from tests.trees.toy import NOTES, PROMPT, TWO, Drawn, Marks, number_of, problem, searched, toys

ANY = PairRules(outcome_filter=False, per_problem=None)


def texts(pairs) -> set[str]:
    return {f"{pair.chosen_text}>{pair.rejected_text}" for pair in pairs}


@pytest.fixture
def tree() -> Tree:
    return searched(NOTES, TWO)


# ---- by hand ------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0.0, 0.01, 0.5, 1.0])
def test_t3_pairs(tree, gap):
    assert texts(step_pairs([tree], replace(ANY, gap=gap))) == {"A1>A2", "A11>A12", "B2>B1", "B21>B22"}


def test_t3_the_outcome_filter(tree):
    assert texts(step_pairs([tree], PairRules())) == {"A11>A12", "B21>B22"}


def test_t3_a_larger_gap(tree):
    """A1 and B2 are 1 above their siblings, the solutions 2."""
    assert texts(step_pairs([tree], replace(ANY, gap=1.01))) == {"A11>A12", "B21>B22"}


def test_t2_a_step_that_was_never_visited_makes_no_pair():
    stopped = searched(NOTES, replace(TWO, stop_at_exhausted=True))
    # B2 has Q = 0, which would be more than B1's -1, and is no estimate.
    assert texts(step_pairs([stopped], replace(ANY, gap=0.0))) == {"A>B", "A1>A2", "A11>A12"}
    assert not any(pair.parent == number_of(stopped, "B") for pair in step_pairs([stopped], ANY))


def test_what_a_pair_holds(tree):
    (pair,) = [one for one in step_pairs([tree], PairRules()) if one.chosen_text == "A11"]
    assert pair.prefix_ids == (*PROMPT, NOTES.token("A"), NOTES.token("A1"))
    assert (pair.chosen_ids, pair.rejected_ids) == ((NOTES.token("A11"),), (NOTES.token("A12"),))
    assert (pair.chosen_q, pair.rejected_q, pair.chosen_visits, pair.rejected_visits) == (1, -1, 1, 1)
    assert (pair.depth, pair.tree, pair.problem_id) == (3, 0, "p0")
    assert tree.nodes[pair.parent].text == "A1"
    assert tree.nodes[pair.chosen].text == "A11"


def siblings(*steps: tuple[str, float, int], wrong_below: bool = True) -> Tree:
    """A root whose children have such texts, Q and N; each with a solution of its own, right where Q > 0."""
    tree = Tree.of(problem(), 0, PROMPT)
    for token, (text, q, visits) in enumerate(steps):
        child = tree.add(0, Step((token,), (-0.1,), text, DELIMITED), "open", None)
        status = "right" if q > 0 else "wrong" if wrong_below else "timeout"
        tree.add(child, Step((99,), (-0.1,), f"{text}!", ENDED), ENDED, status)
        tree.nodes[child].visits, tree.nodes[child].total = visits, q * visits
    return tree


FIVE = (("a", 0.9, 1), ("b", 0.9, 3), ("c", -0.2, 5), ("d", -0.8, 1), ("e", -0.8, 2))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        # Of a and b, which are equal, the more visited; of d and e likewise.
        ("best_worst", {"b>e"}),
        ("best_second", {"b>c"}),
        ("all", {"a>c", "a>d", "a>e", "b>c", "b>d", "b>e"}),
    ],
)
def test_which_children_of_a_parent(choice, expected):
    assert texts(step_pairs([siblings(*FIVE)], PairRules(choice=choice, per_problem=None))) == expected


def test_the_second_best_may_be_preferred_itself_where_outcomes_are_not_looked_at():
    rules = PairRules(choice="best_second", outcome_filter=False, gap=0.1)
    assert texts(step_pairs([siblings(("a", 0.9, 1), ("b", 0.5, 1), ("c", -1, 1))], rules)) == {"a>b"}


def test_any_other_at_random_and_the_same_one_again():
    rules = PairRules(choice="best_random", outcome_filter=False)
    trees = [replace(siblings(*FIVE), number=number) for number in range(60)]
    # A draw of a, which b is no better than, gives no pair.
    assert {one for tree in trees for one in texts(step_pairs([tree], rules))} == {"b>c", "b>d", "b>e"}
    assert [step_pairs([tree], rules) for tree in trees] == [step_pairs([tree], rules) for tree in trees]


def test_the_same_text_makes_no_pair():
    tree = siblings(("a", 0.9, 1), ("a", -1.0, 1), ("b", -0.5, 1))
    assert texts(step_pairs([tree], PairRules())) == {"a>b"}


def test_few_visits_are_not_enough():
    assert texts(step_pairs([siblings(*FIVE)], PairRules(visits=2))) == {"b>e"}
    assert texts(step_pairs([siblings(*FIVE)], PairRules(visits=3))) == {"b>c"}
    assert step_pairs([siblings(*FIVE)], PairRules(visits=4)) == []


def test_the_dispreferred_step_is_wrong_by_q_or_by_what_is_below():
    at_zero = ("a", 0.9, 1), ("b", 0.0, 1)
    assert texts(step_pairs([siblings(*at_zero)], PairRules())) == {"a>b"}
    assert step_pairs([siblings(*at_zero, wrong_below=False)], PairRules()) == []


def test_a_preferred_step_leads_to_a_right_solution():
    tree = siblings(("a", 0.9, 1), ("b", -1.0, 1))
    tree.nodes[2].status = "wrong"  # a's solution, which a value function has thought well of
    assert step_pairs([tree], PairRules()) == []


def test_the_largest_gaps_of_all_trees_are_kept():
    trees = [replace(siblings(("a", q, 1), ("b", -0.5, 1)), number=number) for number, q in enumerate((0.1, 0.9, 0.5))]
    kept = step_pairs(trees, PairRules(per_problem=2, distinct=False))
    assert [(pair.tree, pair.gap) for pair in kept] == [(1, pytest.approx(1.4)), (2, pytest.approx(1.0))]
    assert step_pairs(trees, PairRules(per_problem=None, per_depth=1)) == kept[:1]


def test_of_pairs_of_the_same_tokens_and_of_two_that_contradict_each_other_one_is_kept():
    """Three trees say a>b, the second by the most; a fourth says b>a, by less."""
    values = (0.1, -0.5), (0.9, -0.5), (0.5, -0.5), (-0.3, 0.2)
    trees = [replace(siblings(("a", a, 1), ("b", b, 1)), number=number) for number, (a, b) in enumerate(values)]
    rules = PairRules(outcome_filter=False, per_problem=None)
    assert [(one.chosen_text, one.tree) for one in step_pairs(trees, rules)] == [("a", 1)]
    every = step_pairs(trees, replace(rules, distinct=False))
    assert [(one.chosen_text, one.tree) for one in every] == [("a", 1), ("a", 2), ("a", 0), ("b", 3)]


def test_a_depth_has_its_own_cap(tree):
    kept = step_pairs([tree], replace(ANY, per_depth=1))
    assert [(pair.depth, pair.chosen_text) for pair in kept] == [(3, "A11"), (2, "A1")]


def test_mcts_dpo_looks_along_the_best_path(tree):
    """The root's children tie at -.2, and have as many visits: A is the earlier; then A1, then A11."""
    along = replace(ANY, parents="best_path")
    assert texts(step_pairs([tree], along)) == {"A1>A2", "A11>A12"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visits": 0}, "pairs.visits=0"),
        ({"gap": 2.5}, "pairs.gap=2.5"),
        ({"choice": "best"}, "pairs.choice=best"),
        ({"per_problem": 0}, "pairs.per_problem=0: null, or a whole number of at least 1"),
    ],
)
def test_rules_out_of_bounds_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        PairRules(**changes)


@given(
    toys(),
    st.sampled_from(["best_worst", "best_second", "best_random", "all"]),
    st.booleans(),
    st.floats(0, 2),
    st.integers(1, 3),
)
def test_no_pair_breaks_a_rule(toy, choice, outcome_filter, gap, visits):
    tree = searched(toy, SearchSettings(children=3, simulations=20, depth=9), sampler=Drawn(toy))
    rules = PairRules(visits, gap, outcome_filter, choice, per_problem=None)
    right, wrong = tree.leads_to(RIGHT), tree.leads_to(WRONG)
    for pair in step_pairs([tree], rules):
        chosen, rejected = tree.nodes[pair.chosen], tree.nodes[pair.rejected]
        assert chosen.parent == rejected.parent == pair.parent
        assert chosen.text != rejected.text
        assert min(chosen.visits, rejected.visits) >= visits
        assert chosen.q - rejected.q >= gap
        assert chosen.q > rejected.q
        if outcome_filter:
            assert chosen.q > 0
            assert right[pair.chosen]
            assert rejected.q < 0 or (wrong[pair.rejected] and not right[pair.rejected])


# ---- solutions ----------------------------------------------------------------------------------


def test_solutions_in_the_rollouts_terms(tree):
    found = solutions([tree], SolutionRules(), TWO, top_p=0.9, top_k=5)
    assert [one.status for one in found] == ["wrong", "wrong", "right", "wrong", "right", "wrong"]
    assert [one.sample for one in found] == list(range(6))
    a11 = found[2]
    assert a11.response_ids == [NOTES.token(name) for name in ("A", "A1", "A11")]
    assert a11.behaviour_log_probs == pytest.approx([math.log(0.6), math.log(0.5), math.log(0.7)])
    assert (a11.score, a11.finish_reason, a11.prompt_ids) == (1.0, ENDED, list(PROMPT))
    assert (a11.temperature, a11.top_p, a11.top_k, a11.max_response_tokens) == (1.0, 0.9, 5, 2048)
    assert (a11.problem_id, a11.group, a11.ground_truth, a11.data_source) == ("p0", 0, "3", "toy")


def test_so_many_solutions_of_either_kind(tree):
    found = solutions([tree], SolutionRules(right=1, wrong=2), TWO)
    assert [one.status for one in found] == ["wrong", "wrong", "right"]


def test_the_same_solution_of_two_trees_is_one(tree):
    twice = [tree, replace(tree, number=1)]
    assert len(solutions(twice, SolutionRules(None, None), TWO)) == 6
    assert len(solutions(twice, SolutionRules(None, None, distinct=False), TWO)) == 12


def test_what_the_scorer_could_not_tell_is_kept_and_counts_to_no_limit():
    tree = searched(NOTES, TWO, judge=Marks(NOTES, failed=frozenset({"A2", "B1"})))
    statuses = [one.status for one in solutions([tree], SolutionRules(right=1, wrong=1), TWO)]
    assert statuses == ["timeout", "timeout", "right", "wrong"]


# ---- value targets ------------------------------------------------------------------------------


def test_value_targets_of_visited_steps_alone():
    tree = searched(NOTES, replace(TWO, stop_at_exhausted=True))
    at = len(PROMPT)
    assert step_values(tree, number_of(tree, "A1")) == ([at, at + 1], [tree.nodes[number_of(tree, "A")].q, 0])
    # B2 was never visited, and its Q of 0 is no estimate.
    assert step_values(tree, number_of(tree, "B2")) == ([at], [tree.nodes[number_of(tree, "B")].q])


# ---- drawings -----------------------------------------------------------------------------------


def test_a_tree_as_text(tree):
    assert draw(tree, "a problem", step_pairs([tree], PairRules())) == (
        "a problem     Q -0.18  N 11\n"
        "├─ A          Q -0.20  N 5    p 0.60\n"
        "│  ├─ A1      Q +0.00  N 3    p 0.50\n"
        "│  │  ├─ A11  Q +1.00  N 1    p 0.70  right  chosen\n"
        "│  │  └─ A12  Q -1.00  N 1    p 0.30  wrong  rejected\n"
        "│  └─ A2      Q -1.00  N 1    p 0.50  wrong\n"
        "└─ B          Q -0.20  N 5    p 0.40\n"
        "   ├─ B1      Q -1.00  N 1    p 0.80  wrong\n"
        "   └─ B2      Q +0.00  N 3    p 0.20\n"
        "      ├─ B21  Q +1.00  N 1    p 0.50  right  chosen\n"
        "      └─ B22  Q -1.00  N 1    p 0.50  wrong  rejected\n"
    )


def test_what_was_never_visited_is_drawn_without_q():
    drawn = draw(searched(NOTES, replace(TWO, stop_at_exhausted=True)))
    assert "   └─ B2      Q     ?  N 0    p 0.20\n" in drawn


def test_long_steps_are_shortened_in_their_middle():
    tree = siblings(("x" * 30 + "\n" + "y" * 30, 0.5, 1))
    assert "└─ " + "x" * 9 + "…" + "y" * 10 + "     Q" in draw(tree, width=20)
