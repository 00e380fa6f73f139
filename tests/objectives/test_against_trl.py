"""TRL's trainers as an independent implementation, in a process without verl."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# `make setup` puts TRL here, off the path: beside it verl 0.9.1 cannot build a model.
TRL = Path(sys.prefix) / "trl"


@pytest.mark.patient
@pytest.mark.skipif(not TRL.exists(), reason=f"no TRL in {TRL}: `make setup` puts it there")
def test_values_and_gradients_agree():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", Path(__file__).with_name("trl_agreement.py")],
        env={**os.environ, "PYTHONPATH": str(TRL), "TRL_EXPERIMENTAL_SILENCE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "5 passed" in done.stdout
