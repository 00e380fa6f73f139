"""Seeds on a CPU where a prompt is read in several steps: the engine goes on, and draws what it would have drawn."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.integration.seeded_draws import DRAWS, PROMPT, PROMPTS


@pytest.mark.engine
@pytest.mark.patient
def test_draws_are_the_same_whether_prompts_are_read_at_once_or_in_parts(base_model):
    """All prompts in one step; then each over two steps and more, with the next one's beginning beside its end."""
    budgets = [2 * PROMPT * PROMPTS, PROMPT // 3]
    command = [sys.executable, "-m", "tests.integration.seeded_draws", str(base_model), *map(str, budgets)]
    environment = {**os.environ, "VERL_PLATFORM": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("drawn ")]
    whole, parts = (json.loads(line.removeprefix("drawn ")) for line in lines)
    assert [len(one) for one in whole] == [DRAWS] * PROMPTS
    assert len({tuple(one) for one in whole}) == PROMPTS
    assert parts == whole
