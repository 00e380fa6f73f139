"""What reading promises about damaged files (docs/dataset.md), held against thousands of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.rollouts.fuzz import TARGETS, run

# Cases of the whole campaign: 10,800.
CASES = {
    "shard": 1_500,
    "index": 1_000,
    "manifest": 1_500,
    "forged_manifest": 700,
    "rows": 1_300,
    "forged": 400,
    "check": 200,
    "cache": 1_500,
    "lines": 1_000,
    "archive": 400,
    "problems": 1_000,
    "problem_lines": 300,
}
QUICK = 25
# What hangs ends itself long before: fuzz.HANGS_AFTER_S.
LIMIT_S = 3_600


def test_the_campaign_is_of_all_targets():
    assert set(CASES) == set(TARGETS)
    assert sum(CASES.values()) >= 10_000


@pytest.mark.parametrize("target", TARGETS)
def test_damage_is_refused_or_does_no_harm(target):
    outcomes = run(target, 0, QUICK)
    assert sum(outcomes.values()) == QUICK
    # Most accidents matter: otherwise nothing was damaged.
    assert outcomes["refused"] > QUICK / 2


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_whole_campaign(target):
    """In a process of its own, which a crash of a library below ends, and that is a failure too."""
    command = [sys.executable, "-m", "tests.rollouts.fuzz", target, "0", str(CASES[target])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert sum(json.loads(done.stdout.splitlines()[-1]).values()) == CASES[target]
