"""The second run with a rollout engine on a machine is refused, and knows of the first."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fpa_verl.errors import IntegrationError
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.safety import one_engine
from fpa_verl.integration.safety.one_engine import engine_to_itself
from tests.integration.running import DEMO, WITHOUT_VALIDATION, composed

HOLDER = """
import sys
from pathlib import Path
from fpa_verl.integration.safety import one_engine
one_engine.LOCK = Path(sys.argv[1])
with one_engine.engine_to_itself(Path("runs/first")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path, monkeypatch):
    monkeypatch.setattr(one_engine, "LOCK", tmp_path / "lock")
    return tmp_path / "lock"


def test_the_second_is_refused_and_told_of_the_first(lock, tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "held\n"
    message = rf"another run .*\(process {first.pid}, runs/first\).*wait for its end, or let both join one Ray cluster"
    with pytest.raises(IntegrationError, match=message), engine_to_itself(tmp_path):
        pass
    # Whatever ends it, the kernel lets go.
    first.kill()
    first.wait()
    with engine_to_itself(tmp_path):
        assert str(tmp_path) in lock.read_text()


def test_one_after_the_other(lock, tmp_path):
    for _ in range(2):
        with engine_to_itself(tmp_path):
            pass


@pytest.mark.parametrize(
    ("recipe", "overrides", "wanted"),
    [
        ("collect", (), True),
        ("grpo_baseline", WITHOUT_VALIDATION, True),
        ("evaluate", (), True),
        ("fpa_offline", (), True),
        ("fpa_offline", WITHOUT_VALIDATION, False),
        ("cache_reference", (), False),
    ],
)
def test_which_runs_hold_one(recipe, overrides, wanted):
    assert facts_of(composed(recipe, *DEMO, *overrides)).holds_rollout_engine is wanted
