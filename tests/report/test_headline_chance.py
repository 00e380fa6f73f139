"""How often the headline calls chance a result, and whether the rest of the report says the same; on studies drawn.

Methods of `EQUAL` are equally accurate at equal cost, wherever they were evaluated: a claim that one is cheaper is
false.
"""

from __future__ import annotations

import numpy as np
import pytest

from fpa_verl.report.comparisons import paired, wallclock_tables
from tests.report.simulated import Method, study

TOLD = "That is more than"


def every(hours, count, start=None):
    """Costs of the base model's evaluation and of so many others."""
    return [0.0, *((hours if start is None else start) + hours * i for i in range(count))]


def stays(_hours):
    return 0.4


def gains_at_once(hours):
    return 0.45 if hours else 0.4


def rises(hours):
    return 0.4 + 0.3 * min(1, hours / 5)


def jumps(hours):
    return 0.97 if hours >= 1 else 0.05


# Accuracy by cost, costs of the evaluations of each method, seeds and their deviation.
EQUAL = {
    "training does nothing": (stays, [every(0.5, 8, start=1.5), every(0.5, 10)], 1, 0.0),
    "all gain at once": (gains_at_once, [every(0.5, 8, start=1.5), every(0.5, 10)], 1, 0.0),
    "one is evaluated more often": (gains_at_once, [every(0.2, 16), every(2.0, 2)], 1, 0.0),
    "steep, at other costs": (jumps, [every(0.25, 8), every(0.3, 8)], 1, 0.0),
    "slow, at other costs": (rises, [every(0.3, 15), every(1.1, 6)], 1, 0.0),
    "the cheapest of three": (gains_at_once, [every(0.5, 6, start=1.5)] * 3 + [every(0.5, 8)], 1, 0.0),
    "five seeds": (gains_at_once, [every(0.5, 4, start=1.5), every(0.5, 6)], 5, 0.03),
}


@pytest.mark.parametrize("case", EQUAL)
def test_equal_methods_are_told_apart_in_one_study_of_twenty_at_most(case):
    accuracy, costs, seeds, deviation = EQUAL[case]
    names = ["grpo_baseline", "fpa_offline", "dpo", "kto"][: len(costs)]
    methods = [
        Method(name, hours, accuracy, seeds, deviation) for name, hours in zip(names, reversed(costs), strict=True)
    ]
    rng, studies = np.random.default_rng(0), 20
    told = [study(rng, methods, problems=50).headline().sentences[1].startswith(TOLD) for _ in range(studies)]
    assert sum(told) <= studies / 20


def test_headline_table_and_paired_differences_do_not_contradict_each_other():
    def fast(hours):
        return 0.7 if hours else 0.4

    def slow(hours):
        return 0.4 + 0.02 * hours

    rng, claims = np.random.default_rng(0), 0
    for _ in range(15):
        methods = [Method("grpo_baseline", every(1.0, 8), slow), Method("fpa_offline", every(0.5, 3, start=1.5), fast)]
        found = study(rng, methods, problems=100, samples=2)
        first, second = found.headline().sentences
        told = second.startswith(TOLD)
        target = first.partition("reaches ")[2].split(" ")[0]
        (row,) = (row for row in wallclock_tables.ratio_table(found).rows if row[1] == target)
        low, _, high = row[3].partition(" to ")
        assert told == (float(low.replace("\u221e", "inf")) > 1 or float(high.replace("\u221e", "inf")) < 1)
        if told:
            (ahead,) = paired.compare(found.runs).ahead
            assert ahead.difference.interval[0] > 0 or "; in the end " in second
        claims += told
    # Both kinds of study were among them.
    assert 0 < claims < 15
