"""Whatever a reward function returns is a verdict, or is refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from fpa_verl.reward.math_answer import compute_score
from fpa_verl.reward.verdicts import SCORER_STATUSES, ContractError, Verdict, read_verdict


@pytest.mark.parametrize(
    ("returned", "threshold", "status"),
    [
        (1.0, None, "right"),
        (1, None, "right"),
        (True, None, "right"),
        (np.bool_(True), None, "right"),
        (np.float32(1), None, "right"),
        (0, None, "wrong"),
        (-1.0, None, "wrong"),
        (0.3, 0.5, "wrong"),
        (0.5, 0.5, "right"),
        (7, 0.5, "right"),
        (-0.2, -0.5, "right"),
        # As verl's math_dapo and prime_math return them.
        ({"score": -1.0, "acc": False, "pred": "[INVALID]"}, None, "wrong"),
        ({"score": 1.0, "acc": True, "pred": "42"}, None, "right"),
        ({"score": 0.1, "format": 1.0}, 0.5, "wrong"),
        ({"score": 0.0, "status": "no_answer"}, None, "no_answer"),
        ({"score": 0.1, "status": "no_answer"}, 0.5, "no_answer"),
    ],
)
def test_verdicts(returned, threshold, status):
    verdict = read_verdict(returned, threshold)
    assert verdict.status == status
    assert verdict.score == (status == "right")


@pytest.mark.parametrize("status", SCORER_STATUSES)
def test_a_scorer_that_failed_needs_no_score(status):
    assert read_verdict({"status": status}) == Verdict(status)
    assert read_verdict({"status": status, "score": 0.3}) == Verdict(status)


@pytest.mark.parametrize(
    ("told", "extracted"), [({"extracted": "4"}, "4"), ({"pred": 4}, "4"), ({}, ""), ({"extracted": None}, "")]
)
def test_the_answer_that_was_graded(told, extracted):
    assert read_verdict({"score": 1.0, **told}).extracted == extracted


@pytest.mark.parametrize(
    ("returned", "threshold", "message"),
    [
        (0.3, None, r"a score of 0\.3, and it is not known .* set reward\.threshold=NUMBER"),
        (2, None, "a score of 2, and it is not known"),
        (float("inf"), None, "a score of inf"),
        (float("nan"), None, "no 'score' that is a number"),
        (float("nan"), 0.5, "no 'score' that is a number"),
        (None, None, "no 'score' that is a number"),
        ("right", None, "no 'score' that is a number"),
        ({"acc": 1.0}, None, "no 'score' that is a number"),
        ({"score": "1"}, None, "no 'score' that is a number"),
        ({"score": 1.0, "status": "correct"}, None, "status 'correct', which is none of right, wrong, no_answer, time"),
        ({"score": 1.0, "status": "wrong"}, None, "status 'wrong' with a score of 1, which is the contrary"),
        ({"score": 0.3, "status": "right"}, 0.5, "status 'right' with a score of 0.3, which is the contrary"),
        ((1.0, {}), None, "no 'score' that is a number"),
        (10**400, 0.5, "returned a score larger than any float"),
    ],
)
def test_what_is_no_verdict(returned, threshold, message):
    with pytest.raises(ContractError, match=message):
        read_verdict(returned, threshold)


@pytest.mark.parametrize("response", [r"\boxed{2}", r"\boxed{3}", "2"])
def test_our_own_scorer_returns_verdicts(response):
    returned = compute_score("toy", response, "2")
    verdict = read_verdict(returned)
    assert {"score": verdict.score, "acc": verdict.score} | vars(verdict) == returned
