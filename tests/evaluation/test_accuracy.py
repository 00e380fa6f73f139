from __future__ import annotations

import math

import pytest

from fpa_verl.evaluation import pass_at_1


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
