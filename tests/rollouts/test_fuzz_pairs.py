"""Of 2,000 damaged files of preferences and scored responses each is refused by name, or imports to a sound dataset."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.rollouts.fuzz_pairs import FORMS, run

# Files of a form that are damaged and read; all of them together are the 2,000.
CASES = 200
# Of these how many are imported and verified as well; with `-m slow` all of them.
WHOLE = 10
LIMIT_S = 1_800


def test_the_campaign_is_of_two_thousand():
    assert CASES * len(FORMS) >= 2_000


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_file_is_refused_by_row_or_read_right(form):
    outcomes = run(form, 0, CASES)
    assert sum(outcomes.values()) == CASES
    # Most accidents matter, and some do not.
    assert outcomes["refused"] > CASES / 2
    assert outcomes["taken"] > CASES / 20


@pytest.mark.parametrize("form", FORMS)
def test_what_is_imported_of_a_damaged_file_verifies(form):
    assert sum(run(form, 0, WHOLE, whole=True).values()) == WHOLE


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_whole_campaign(form):
    """In a process of its own, which a crash of a library below ends, and that is a failure too."""
    command = [sys.executable, "-m", "tests.rollouts.fuzz_pairs", form, "0", str(CASES), "whole"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert sum(json.loads(done.stdout.splitlines()[-1]).values()) == CASES
