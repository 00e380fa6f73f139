from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpa_verl.evaluation.contamination import ProblemIndex, normalised, shingles, words

TRAINING = {
    "t1": r"An ellipse in the first quadrant is tangent to both axes. One focus is at $(3,7)$. Compute $d$.",
    "t2": r"What is the remainder when $1 + 2 + 3 + 4 + \dots + 9 + 10$ is divided by 8?",
    "t3": "Find x.",
    "t4": "find x",
}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\[\cos^3 \frac{2 \pi}{7}.\]", r"$\cos ^{3} \dfrac{2 \pi}{7}$"),
        (r"$1+2+\cdots+9$", r"1 + 2 + \ldots + 9"),
        (r"\left( x, y \right)", "(x,y)"),
        (r"$4^{\circ}$", "4°"),
        (r"$\text { and } \quad a$", "AND a"),
        ("a \N{MINUS SIGN} b", "a-b"),
        ("ﬁnd  x²\n", "Find x^2."),
        (r"\(a_1\)", r"$a_{1}$"),
        (r"\log_82", r"\log_8 2"),
        (r"\dfrac12", r"\frac{1}{2}"),
        (r"$x^{4}+j x^{2}+k x$", "$x^4 + jx^2 + kx$"),
    ],
)
def test_two_spellings_of_one_problem(one, other):
    assert normalised(one) == normalised(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$9$ is divided by 8", "$9$ is divided by 9"),
        (r"$88 \div (4 \div 2)$", r"$88 \div 4 \div 2$"),
        ("a + b", "a - b"),
        ("2516", "25 16"),
        (r"$\tan 22.5^\circ.$", r"$\tan 225^\circ$."),
        ("$x_1^2$", "$x^{12}$"),
        (r"x \leftarrow y", r"x \rightarrow y"),
    ],
)
def test_two_problems_stay_two(one, other):
    assert normalised(one) != normalised(other)


def test_normalised_by_hand():
    text = r"Let $\dfrac{1}{2}x_{1}=\left|-y\right|$, \textbf{ok}?"
    assert words(text) == ["let", "frac", "1", "2", "x", "1", "=", "-", "y", "ok"]
    assert normalised(text) == "letfrac1 2x1=-yok"


# Unicode at large, and LaTeX put together from what the rules are about.
LATEX = st.lists(st.sampled_from([*"\\{}$^_ .,x1(=|", r"\left", r"\dfrac", r"\text", r"\dots", r"\[", "°", "İ"])).map(
    "".join
)


@given(st.one_of(st.text(max_size=30), LATEX))
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)


@given(LATEX)
def test_spaces_dollars_and_case_do_not_matter(text):
    assert normalised(f" ${text.upper().lower()}$\n") == normalised(text.lower())


def test_shingles_by_hand():
    assert shingles("One two, three four.", length=3) == {("one", "two", "three"), ("two", "three", "four")}
    # A text shorter than a shingle is one; figures are no text.
    assert shingles("Find x. [asy] draw((0,0)--(1,1)); [/asy]") == {("find", "x")}
    assert shingles("[asy] draw(); [/asy]") == shingles("") == set()


def test_the_same_problem_is_found():
    (match,) = ProblemIndex(TRAINING).matches({"e": TRAINING["t1"].replace("$", "").upper()})
    assert (match.evaluation_id, match.training_id, match.similarity, match.same) == ("e", "t1", 1.0, True)


def test_of_equal_training_problems_the_first_is_named():
    (match,) = ProblemIndex(TRAINING).matches({"e": "FIND X"})
    assert (match.training_id, match.same) == ("t3", True)


def test_a_near_problem_is_found_by_the_share_of_shingles():
    near = {"e": r"What is the remainder when $1 + 2 + 3 + 4 + \dots + 9 + 10$ is divided by 9?"}
    # 21 tokens, so 17 runs of five; the last word is in one of them: 16 common, 18 in all.
    (match,) = ProblemIndex(TRAINING).matches(near)
    assert (match.training_id, match.same, match.similarity) == ("t2", False, pytest.approx(16 / 18))
    assert ProblemIndex(TRAINING).matches(near, near=0.9) == []


def test_the_same_words_with_another_figure_are_near():
    index = ProblemIndex({"t": "Find the area of this. [asy] draw((0,0)--(1,1)); [/asy]"})
    (match,) = index.matches({"e": "Find the area of this. [asy] draw((0,0)--(2,2)); [/asy]"})
    assert (match.same, match.similarity) == (False, 1.0)


def test_closest_first():
    index = ProblemIndex(TRAINING)
    found = index.matches(
        {
            "far": "What is the remainder when $1 + 2 + 3 + 4$ is divided by 8?",
            "near": TRAINING["t2"].replace("8", "9"),
            "same": TRAINING["t2"],
            "other": "How many sheep are left?",
        },
        near=0.2,
    )
    assert [match.evaluation_id for match in found] == ["same", "near", "far"]


def test_nothing_matches_nothing():
    assert ProblemIndex({}).matches({"e": "1 + 1"}) == []
    assert ProblemIndex({"t": "$$"}).matches({"e": "..."}) == []
    assert ProblemIndex(TRAINING).matches({}) == []


WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=6), WORDS)
def test_the_closest_is_that_of_comparing_all_pairs(training, problem):
    index = ProblemIndex({str(i): text for i, text in enumerate(training)})
    mine = shingles(problem)
    all_pairs = [len(mine & shingles(text)) / len(mine | shingles(text)) for text in training]
    found = index.matches({"e": problem}, near=0.01)
    if max(all_pairs) == 0:
        assert found == []
    else:
        assert found[0].similarity == pytest.approx(max(all_pairs))
