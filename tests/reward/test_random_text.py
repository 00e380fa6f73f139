"""Whatever is boxed, the scorer returns one of its statuses."""

from __future__ import annotations

import contextlib
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpa_verl.reward.comparison import same
from fpa_verl.reward.latex import UnreadableError
from fpa_verl.reward.math_answer import compute_score, judge
from fpa_verl.reward.reading import readings
from fpa_verl.reward.values import UnsettledError
from fpa_verl.reward.verdicts import MODEL_STATUSES, SCORER_STATUSES

WORDS = r"""
\frac \dfrac \sqrt \text{ \text{cm} \mathrm \left \right \pi \infty \cup \cap \in \pm \cdot \times \leq < > =
\begin{pmatrix} \end{pmatrix} & \\ { } ( ) [ ] \{ \} | , ; : . ! ^ _ % \% $ \$ + - * / ' \boxed{
\lim_{x\to \sum_{k=1}^ \int_0^1 dx \mathrm{d} \emptyset none no solution
0 1 2 3 12 345 1,000 0.5 .5 x y n i e A B C f(x) sin log and or am p.m. cm dollars
"""
SPECIAL = [" ", "\n", "\t", "°", "π", "\u2212", "½", "你", "\0", "\ud800", "\u202e", "e\u0301"]
PIECES = [*re.findall(r"\S+", WORDS), *SPECIAL]


def random_text(generator: random.Random) -> str:
    if generator.random() < 0.2:
        return "".join(chr(generator.randrange(0x110000)) for _ in range(generator.randrange(30)))
    return "".join(generator.choice(PIECES) for _ in range(generator.randrange(1, 25)))


def test_ten_thousand_random_strings_never_raise():
    """Seed 0; the whole way but for the children, which the next test takes."""
    generator = random.Random(0)
    unreadable = unsettled = settled = 0
    for _ in range(10_000):
        try:
            given, gold = readings(random_text(generator)), readings(generator.choice(["3", "x+1", "(1,2)", "2,3"]))
            same(gold[0], given[0], None)
            settled += 1
        except UnreadableError:
            unreadable += 1
        except UnsettledError:
            unsettled += 1
    # Strings of all three kinds were among them.
    assert settled + unreadable + unsettled == 10_000
    assert min(settled, unreadable, unsettled) > 500


@pytest.mark.slow
def test_ten_thousand_random_strings_through_the_children():
    generator = random.Random(1)
    for _ in range(10_000):
        text = rf"\boxed{{{random_text(generator)}}}" if generator.random() < 0.9 else random_text(generator)
        gold = generator.choice(["3", r"\sin x", "(1,2)", random_text(generator)])
        assert compute_score("", text, gold)["status"] in (*MODEL_STATUSES, *SCORER_STATUSES)


def test_some_random_strings_through_the_children():
    generator = random.Random(2)
    for _ in range(150):
        status = compute_score("", rf"\boxed{{{random_text(generator)}}}", r"\sin x")["status"]
        assert status in (*MODEL_STATUSES, *SCORER_STATUSES)


@given(st.text(max_size=200))
def test_reading_any_text_raises_nothing_else(text):
    with contextlib.suppress(UnreadableError):
        readings(text)


whole = st.integers(-(10**12), 10**12)


@given(whole, whole)
def test_whole_numbers_are_right_exactly_where_they_are_equal(a, b):
    assert (judge(str(a), str(b)) == "right") == (a == b)
    # The short cut for plain numbers reads what the long way reads.
    assert readings(f" {a} ") == readings(str(a))
    assert judge(f"{a:,}", str(a)) == "right"
    assert judge(rf"\({a}\).", f"{a}.0") == "right"


@given(whole, st.integers(1, 10**6), st.integers(2, 50))
def test_a_fraction_is_the_same_reduced_or_not(above, below, factor):
    reduced, other = rf"\frac{{{above}}}{{{below}}}", rf"\dfrac{{{above * factor}}}{{{below * factor}}}"
    assert judge(reduced, other) == "right"
    assert judge(rf"\frac{{{above + 1}}}{{{below}}}", other) == "wrong"


@settings(max_examples=50)
@given(st.lists(whole, min_size=2, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_order_matters_in_a_tuple_and_not_in_a_set(numbers, generator):
    shuffled = generator.sample(numbers, len(numbers))
    before, after = (", ".join(map(str, order)) for order in (numbers, shuffled))
    assert judge(f"({after})", f"({before})") == ("right" if shuffled == numbers else "wrong")
    assert judge(rf"\{{{after}\}}", rf"\{{{before}\}}") == "right"
