"""Seeds on a CPU where a prompt is read in several steps: the engine goes on, and draws what it would have drawn."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.integration.seeded_draws import DRAWS, PROMPT, PROMPTS


def drawn(model, tokens: int) -> list[list[int]]:
    command = [sys.executable, "-m", "tests.integration.seeded_draws", str(model), str(tokens)]
    environment = {**os.environ, "VERL_PLATFORM": "cpu", "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("drawn "))
    return json.loads(line.removeprefix("drawn "))


def test_draws_are_the_same_whether_prompts_are_read_at_once_or_in_parts(base_model):
    whole = drawn(base_model, 2 * PROMPT * PROMPTS)
    assert [len(one) for one in whole] == [DRAWS] * PROMPTS
    assert len({tuple(one) for one in whole}) == PROMPTS
    # No prompt fits into a step; then one and a part of the next does.
    assert drawn(base_model, PROMPT // 2) == whole
    assert drawn(base_model, PROMPT + PROMPT // 3) == whole
