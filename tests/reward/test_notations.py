r"""Notations of other people's models, data and graders: the cases in data/, and what an answer may cost.

data/other_suites.tsv: cases of other graders' suites and beside them. data/notations.tsv: more of each kind, and the
neighbours that must not be accepted.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fpa_verl.reward.math_answer import check_ground_truth, compute_score, judge

DATA = Path(__file__).parent / "data"


def rows(name: str) -> list[list[str]]:
    with open(DATA / name, encoding="utf-8", newline="") as handle:
        return list(csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]


@pytest.mark.parametrize(("kind", "status", "truth", "response"), rows("other_suites.tsv"))
def test_a_case_of_another_suite(kind, status, truth, response):
    assert compute_score("", response, truth)["status"] == status


@pytest.mark.parametrize(("kind", "status", "truth", "answer"), rows("notations.tsv"))
def test_a_notation_in_both_directions(kind, status, truth, answer):
    assert judge(answer, truth) == status
    # What cannot be read surely is wrong as an answer and bad as a ground truth, and nothing in between.
    readable = check_ground_truth(answer) == "right"
    assert judge(truth, answer) == (status if readable else "bad_ground_truth")


@pytest.mark.parametrize(
    "truth",
    [
        *(
            "NaN",
            "nan",
            " nan ",
            "-nan",
            "None",
            "null",
            "NULL",
            "N/A",
            "n/a",
            "NaT",
            "<NA>",
            "inf",
            "-inf",
            "Infinity",
        ),
        *(
            "NaN.",
            "$NaN$",
            r"\text{NaN}",
            "['nan']",
            "nan, nan",
            "NA",
            "[nan, nan]",
            "(NaN, NaN)",
            '"null"',
            r"\(\mathrm{NaN}\)",
        ),
        *("['None']", "$inf$", "'-inf'"),
    ],
)
def test_what_a_program_writes_where_there_is_no_value_is_no_ground_truth(truth):
    assert {judge(answer, truth) for answer in (truth, "5", r"\infty")} == {"bad_ground_truth"}


@pytest.mark.parametrize(
    "truth",
    [
        r"\infty",
        r"-\infty",
        "infinity",
        "(-inf, 5)",
        r"\text{None}",
        "none",
        r"\text{DNE}",
        "None.",
        "(-inf, inf)",
        "Na",
    ],
)
def test_what_a_person_writes_of_infinity_and_nothing_is_one(truth):
    assert check_ground_truth(truth) == "right"


@pytest.mark.parametrize(
    "truth",
    [
        "2^3^2",
        "x**2**3",
        r"\log_25 x",
        r"7 + 5 \bmod 3",
        "3!!!",
        "['1', '2']",
        r"{1 \choose 2 \choose 3}",
        "5 以上",
        "5千",
        "5 below zero",
        r"5 \text{ gross}",
        "5 docenas",
        "5打",
        "0.333...",
        # A power of ten as a program writes it, or a sum with Euler's number.
        "2e+3",
        "3E-1",
        "(2e+3, 3e-1)",
    ],
)
def test_a_ground_truth_with_two_readings_is_bad(truth):
    assert check_ground_truth(truth) == "bad_ground_truth"


@pytest.mark.parametrize(
    ("response", "truth", "status"),
    [
        (r"\boxed{3} \boxed{4}", "3, 4", "right"),
        (r"\boxed{3}\quad\text{or}\quad\boxed{4}", "4, 3", "right"),
        (r"\[\boxed{x = 3}\] and \[\boxed{x = 4}\]", "3, 4", "right"),
        (r"\boxed{3}, \(\boxed{4}\) 或 \boxed{5}", "3, 4, 5", "right"),
        (r"\boxed{3}\qquad\boxed{5}", "3, 4", "wrong"),
        (r"\boxed{3}\qquad\boxed{4}\qquad\boxed{5}", "3, 4", "wrong"),
        (r"\boxed{3} is too small: \boxed{4}", "3, 4", "wrong"),
        (r"\boxed{3} \text{ not } \boxed{4}", "3, 4", "wrong"),
        # One answer is asked for: two are none, in whatever order.
        (r"\boxed{3}\qquad\boxed{4}", "4", "wrong"),
        (r"\boxed{3} or \boxed{4}", "4", "wrong"),
        (r"\boxed{1} \boxed{2} \boxed{3} \boxed{4}", "4", "wrong"),
        (r"\boxed{no} or \boxed{yes}", "yes", "wrong"),
        (r"\boxed{A} and \boxed{B}", "B", "wrong"),
        (r"\boxed{3}\boxed{4}", "4", "wrong"),
        (r"\boxed{1,2} or \boxed{1,3}", "1,3", "wrong"),
        # With prose between, the last counts.
        (r"\boxed{3} cannot be, so $\boxed{4}$", "4", "right"),
        (r"We get \boxed{3} and \boxed{5}. The sum is \boxed{8}.", "8", "right"),
        # The same again is the same.
        ("$\\boxed{4}$\n\n$\\boxed{4}$", "4", "right"),
        ("$\\boxed{x = 4}$\n\n$\\boxed{4}$", "4", "right"),
        (r"$\boxed{\frac12}$ or $\boxed{0.5}$", "0.5", "right"),
        ("$\\boxed{1,2}$\n\n$\\boxed{1,2}$", "1,2", "right"),
        ("$\\boxed{1,2}$\n\n$\\boxed{2, 1}$", "1,2", "right"),
        ("$\\boxed{(1,2)}$ $\\boxed{(1, 2)}$", "(1,2)", "right"),
        (r"\boxed{1}\quad\boxed{2}\quad\boxed{1,2}", "1,2", "right"),
        (r"\boxed{4}, \boxed{4}", "4,4", "right"),
        (r"\boxed{2} and \boxed{2}", r"\pm 2", "wrong"),
        # Parts of what is no list, and with their names.
        (r"\boxed{1} and \boxed{2}", r"\{1,2\}", "right"),
        (r"\boxed{1}, \boxed{2}", "(1,2)", "right"),
        (r"**\boxed{1}** and **\boxed{2}**", "1,2", "right"),
        (r"\boxed{1} \\ \boxed{2}", "1,2", "right"),
        (r"x=\boxed{1}, y=\boxed{2}", "x=1, y=2", "right"),
        (r"x=\boxed{2}, y=\boxed{1}", "x=1, y=2", "wrong"),
        (r"x=\boxed{1}, y=\boxed{2}", "(1,2)", "right"),
        (r"\boxed{(-\infty,1)} \cup \boxed{(2,\infty)}", r"(2,\infty) \cup (-\infty,1)", "right"),
        (r"\boxed{(-\infty,1)} \cup \boxed{(2,\infty)}", r"(2,\infty)", "wrong"),
        (r"\boxed{3}\qquad\boxed{4}", "3", "wrong"),
        (r"\boxed{3}\boxed{4}", "34", "wrong"),
    ],
)
def test_boxes_in_parts(response, truth, status):
    assert compute_score("", response, truth)["status"] == status


LARGE = [
    "2^{2^{2^{49}}}",
    "2^{10^{10}}",
    "9^{9^{9^9}}",
    "2**10**10**10",
    "2^10^10",
    "(10^{6})!",
    "((9!)!)!",
    "99999999999999999999!",
    "(10^{9})!!",
    r"\binom{10^{10}}{5\cdot 10^9}",
    r"{10^{10} \choose 10^9}",
    r"\prod_{k=1}^{10^{9}} k",
    r"\lfloor 10^{10^{10}} x\rfloor",
    r"\sin(10^{10^{10}})",
    r"\gcd(10^{10^{10}},3)",
    r"\operatorname{lcm}(10^{10^{11}}, 6)",
    r"\max(\gcd(10^{10^{10}}, 6), 2)",
    r"\log_{10^{10^{10}}} 2",
    r"7^{7^{7^{7}}} \bmod 10",
    "2^{10^{10}} = 2^{10^{10}}",
    r"(1+10^{-9})^{10^{9}}",
    r"10^{-10^{10}}",
    "x^{10^{10^{10}}} < 1",
    r"\begin{pmatrix}1&1\\1&0\end{pmatrix}^{10^{9}}",
    "(" * 29 + "x + i" + ")" * 29,
    r"\sqrt{" * 29 + "x + i" + "}" * 29,
    "+".join(["sin(x)"] * 40),
    "三" * 1900,
    "m²" * 900,
    "½" * 1900,
    "²" * 1900,
    "''" * 900 + "x",
    r"\choose" * 280,
]


@pytest.mark.patient
@pytest.mark.parametrize("truth", [r"\sin 2x", "x < 1", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"])
def test_an_answer_that_is_too_large_is_wrong_and_no_failure_of_the_scorer(truth):
    assert {answer: judge(answer, truth) for answer in LARGE} == dict.fromkeys(LARGE, "wrong")


@pytest.mark.patient
def test_a_ground_truth_that_is_too_large_is_bad():
    truths = ["2^{10^{10}}", "(10^{9})!", r"\gcd(10^{10^{11}}, 6)", r"\sin(10^{10^{10}})", r"\sum_{k=1}^{10^9} \sin k"]
    assert {truth: judge("5", truth) for truth in truths} == dict.fromkeys(truths, "bad_ground_truth")


@pytest.mark.patient
@pytest.mark.parametrize(
    "answer",
    [r"\sum_{k=1}^{10^9} \sin k", r"\gcd(10^{10^{9}}, 3)", "exp(" * 25 + "9" + ")" * 25],
)
def test_an_answer_that_takes_its_processor_time_is_wrong(answer):
    """None of its numbers is too large to write down; what it asks for is."""
    assert judge(answer, r"\sin 2", timeout_s=240.0) == "wrong"


def test_large_numbers_that_can_be_formed_are_compared():
    assert judge("2^{3000}", "8^{1000}") == "right"
    assert judge("3^{10000}", "9^{5000}") == "right"
    assert judge("3^{10000}", "9^{5001}") == "wrong"
    assert judge(r"1000!", r"1000\cdot 999!") == "right"
    assert judge(r"\frac{1000!}{998!}", "999000") == "right"
