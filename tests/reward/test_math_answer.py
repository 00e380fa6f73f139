from __future__ import annotations

import subprocess
import sys

import pytest

from fpa_verl.reward.math_answer import compute_score, judge, scorer_fingerprint


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
    assert result == {"score": 1.0, "acc": 1.0, "status": "right", "extracted": "2"}
    assert compute_score("math", "nothing", "2")["status"] == "no_answer"
    assert compute_score("math", r"\boxed{2}", "")["status"] == "bad_ground_truth"


def test_fingerprint_names_all_versions():
    assert scorer_fingerprint().startswith("math_answer/6+math-verify/")
    assert "+sympy/" in scorer_fingerprint()


def test_a_very_long_answer_is_wrong_and_a_very_long_ground_truth_is_bad():
    assert judge("1" * 2001, "1") == "wrong"
    assert judge("1", "1" * 2001) == "bad_ground_truth"


def test_the_same_answer_gets_the_same_status_whatever_was_asked_before():
    questions = [("1/2", "0.5"), (r"\sin 2x", r"2\sin x\cos x"), ("x", "y"), ("", "3"), ("3", "")]
    first = [judge(*question) for question in questions]
    assert first == ["right", "right", "wrong", "wrong", "bad_ground_truth"]
    assert [judge(*question) for question in reversed(questions)] == first[::-1]


def test_sympy_stays_in_the_children():
    code = (
        "import sys; from fpa_verl.reward.math_answer import judge; assert judge('1/2', '0.5') == 'right'; "
        "print({'sympy', 'math_verify', 'torch', 'verl', 'ray'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "set()", done.stderr
