from __future__ import annotations

import math
from itertools import combinations

import pytest

from fpa_verl.evaluation import maj_at_k, pass_at_1, pass_at_k


def test_by_hand():
    # Shares 1, 0.5, 0: mean 0.5, variance 0.25, standard error sqrt(0.25 / 3).
    result = pass_at_1({"a": (4, 4), "b": (2, 4), "c": (0, 4)})
    assert (result.mean, result.problems, result.samples) == (0.5, 3, 12)
    assert result.standard_error == pytest.approx(math.sqrt(0.25 / 3))


def test_samples_of_one_problem_do_not_count_as_independent():
    few, many = ({"a": (n, n), "b": (0, n)} for n in (1, 1000))
    assert pass_at_1(few).standard_error == pass_at_1(many).standard_error


def test_problems_without_samples_are_left_out():
    assert pass_at_1({"a": (1, 1), "b": (0, 0)}).mean == 1.0
    assert math.isnan(pass_at_1({}).mean)


def test_pass_at_k_by_hand():
    # a: 1 - C(2,2)/C(4,2) = 5/6; b: none right, 0; c: 1 - C(1,2)/C(4,2) = 1; d has one sample only.
    outcomes = {"a": (2, 4), "b": (0, 4), "c": (3, 4), "d": (1, 1)}
    result = pass_at_k(outcomes, 2)
    assert result.mean == pytest.approx((5 / 6 + 0 + 1) / 3)
    assert (result.problems, result.samples) == (3, 12)
    # k = 1 is Pass@1: (1/2 + 0 + 3/4 + 1) / 4.
    assert pass_at_k(outcomes, 1) == pass_at_1(outcomes)
    assert pass_at_1(outcomes).mean == pytest.approx(0.5625)


def test_pass_at_k_is_the_mean_over_all_choices_of_k():
    samples = [1, 0, 0, 1, 0, 0, 0]
    for k in range(1, 8):
        chosen = [any(choice) for choice in combinations(samples, k)]
        assert pass_at_k({"a": (2, 7)}, k).mean == pytest.approx(sum(chosen) / len(chosen))


RIGHT, WRONG, IDLE, NONE = ("7", True), ("8", False), ("9", False), (None, False)


@pytest.mark.parametrize(
    ("ballots", "k", "expected"),
    [
        ([RIGHT, RIGHT, WRONG], 3, 1.0),
        ([RIGHT, WRONG, WRONG], 3, 0.0),
        # Two answers, two votes each: a coin.
        ([RIGHT, WRONG, RIGHT, WRONG], 4, 1 / 2),
        # Three answers, one vote each.
        ([RIGHT, WRONG, IDLE], 3, 1 / 3),
        # Samples without an answer do not vote, however many.
        ([RIGHT, NONE, NONE], 3, 1.0),
        ([NONE, NONE, NONE], 3, 0.0),
        # One of three: the share of right samples.
        ([RIGHT, WRONG, NONE], 1, 1 / 3),
        # Two of three: {R,R} 1, {R,W} 1/2 twice.
        ([RIGHT, RIGHT, WRONG], 2, 2 / 3),
        # Two of three: {R,-} 1, {W,-} 0, {R,W} 1/2.
        ([RIGHT, WRONG, NONE], 2, 1 / 2),
    ],
)
def test_maj_at_k_by_hand(ballots, k, expected):
    assert maj_at_k({"a": ballots}, k).mean == pytest.approx(expected)


def majority(choice) -> float:
    """Share of the right ones among the answers that come first."""
    answers = [answer for answer, _ in choice if answer is not None]
    most = max((answers.count(a) for a in answers), default=0)
    first = [ballot for ballot in choice if ballot[0] is not None and answers.count(ballot[0]) == most]
    # As many samples stand behind each answer in front: the share of right ones is the mean of theirs.
    return sum(right for _, right in first) / len(first) if first else 0.0


def test_maj_at_k_is_the_mean_over_all_choices_of_k():
    # Two right answers that are spelled differently, two wrong ones, two without an answer.
    ballots = [("7", True)] * 3 + [("7.0", True)] * 2 + [("8", False)] * 3 + [("9", False)] + [(None, False)] * 2
    for k in range(1, len(ballots) + 1):
        chosen = [majority(choice) for choice in combinations(ballots, k)]
        assert maj_at_k({"a": ballots}, k).mean == pytest.approx(sum(chosen) / len(chosen))


def test_maj_at_k_over_problems():
    votes = {"a": [RIGHT, RIGHT], "b": [WRONG, WRONG], "c": [RIGHT, WRONG], "d": [RIGHT]}
    result = maj_at_k(votes, 2)
    # 1, 0, 1/2; d has too few.
    assert (result.mean, result.problems, result.samples) == (0.5, 3, 6)
    assert result.standard_error == pytest.approx(math.sqrt(0.25 / 3))


ILL_FORMED = ("7", False)


@pytest.mark.parametrize(
    ("ballots", "k", "expected"),
    [
        # One answer, right in one form and wrong in another: it wins, and half of it is right.
        ([RIGHT, ILL_FORMED], 2, 1 / 2),
        ([RIGHT, ILL_FORMED], 1, 1 / 2),
        # 7 has three votes of four, two of them right.
        ([RIGHT, RIGHT, ILL_FORMED, WRONG], 4, 2 / 3),
        # 7 and 8 share the first place: half of the half that is right.
        ([RIGHT, ILL_FORMED, WRONG, WRONG], 4, 1 / 4),
        # Two of three: {R,F} 1/2, {R,W} and {F,W} half of a half: 1/2 + 1/4 + 1/4 over 3.
        ([RIGHT, ILL_FORMED, WRONG], 2, 1 / 3),
        # Who never answers does not change that 7 is right once of three times.
        ([RIGHT, ILL_FORMED, ILL_FORMED, NONE], 4, 1 / 3),
        # Outvoted by 8.
        ([RIGHT, ILL_FORMED, WRONG, WRONG, WRONG], 5, 0.0),
    ],
)
def test_an_answer_that_is_right_and_wrong_counts_by_the_share_of_its_right_samples(ballots, k, expected):
    assert maj_at_k({"a": ballots}, k).mean == pytest.approx(expected)


def test_with_such_answers_too_it_is_the_mean_over_all_choices_of_k():
    # The majority of a choice counts by the right ones among those chosen.
    ballots = [RIGHT] * 3 + [ILL_FORMED] * 2 + [WRONG] * 3 + [("9", True), IDLE] + [NONE] * 2
    for k in range(1, len(ballots) + 1):
        chosen = [majority(choice) for choice in combinations(ballots, k)]
        assert maj_at_k({"a": ballots}, k).mean == pytest.approx(sum(chosen) / len(chosen))


@pytest.mark.parametrize("measure", [pass_at_k, maj_at_k])
def test_k_is_at_least_one(measure):
    with pytest.raises(ValueError, match="k >= 1, not 0"):
        measure({}, 0)
