from __future__ import annotations

import threading
import time

import pytest

from fpa_verl.reward.math_answer import compute_score, judge, last_boxed, scorer_fingerprint
from fpa_verl.reward.sandbox import GraderPool


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        # The last one was cut off: the last complete one counts.
        (r"\boxed{7} and finally \boxed{\frac{1}{", "7"),
        (r"\fbox{3}", "3"),
        (r"\boxed {5}", "5"),
        (r"\boxed{}", ""),
        ("no box", None),
        (r"\boxed{cut off", None),
    ],
)
def test_last_complete_box(text, expected):
    assert last_boxed(text) == expected


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("143", "143"),
        ("007", "7"),
        (r"\frac{1}{2}", "0.5"),
        (r"\dfrac{3}{4}", r"\frac{3}{4}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        ("1,000", "1000"),
        (r"\text{east}", "east"),
        (r"x^2+2x+1", r"(x+1)^2"),
        ("$12$", "12"),
    ],
)
def test_equal_answers_are_right(answer, gold):
    assert judge(answer, gold) == "right"


@pytest.mark.parametrize(("answer", "gold"), [("144", "143"), (r"\frac{1}{3}", "0.5"), ("(3,4)", "(4,3)"), ("x", "y")])
def test_other_answers_are_wrong(answer, gold):
    assert judge(answer, gold) == "wrong"


def test_result_has_what_verl_and_the_report_need():
    result = compute_score("math", r"\boxed{2}", "2", {"problem_id": "p1"})
    assert result == {"score": 1.0, "acc": 1.0, "status": "right", "extracted": "2", "problem_id": "p1"}
    assert compute_score("math", r"\boxed{2}", "2", {"index": 4})["problem_id"] == "math/4"
    assert compute_score("math", "nothing", "2")["status"] == "no_answer"
    assert compute_score("math", r"\boxed{2}", "")["status"] == "bad_ground_truth"


def test_fingerprint_names_both_versions():
    assert scorer_fingerprint().startswith("math_answer/2+math-verify/")


HANGS = "9^{9^{9^9}}"


def test_a_hang_is_a_timeout_and_the_next_answer_is_graded():
    pool = GraderPool(size=1)
    try:
        started = time.monotonic()
        assert pool.grade(answer=HANGS, ground_truth="3", timeout_s=2.0) == "timeout"
        # Start-up of the child is not counted, so only an upper bound on the whole.
        assert time.monotonic() - started < 60
        assert pool.grade(answer=r"\frac12", ground_truth="0.5") == "right"
    finally:
        pool.close()


def test_queued_answers_do_not_lose_time_to_those_before_them():
    """One child, three threads: two hang, and the third, queued behind both, is still graded right."""
    pool = GraderPool(size=1)
    statuses: list[str] = []

    def ask(answer: str) -> None:
        statuses.append(pool.grade(answer=answer, ground_truth="0.5", timeout_s=2.0))

    threads = [threading.Thread(target=ask, args=(answer,)) for answer in (HANGS, HANGS, r"\frac12")]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == ["right", "timeout", "timeout"]
    finally:
        pool.close()


def test_a_killed_child_is_replaced():
    pool = GraderPool(size=1)
    try:
        assert pool.grade(answer="1/2", ground_truth="0.5") == "right"
        grader = pool._idle.get()
        grader._process.kill()
        grader._process.wait()
        pool._idle.put(grader)
        assert pool.grade(answer="1/2", ground_truth="0.5") == "right"
    finally:
        pool.close()
