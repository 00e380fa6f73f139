"""Padding removal and Ulysses: verl's own, without flash attention's kernel, give the weights of the padded path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.stepping import batch, cached, drift, from_cache, update, worker

SOURCES = {"hidden": 0, "topk": 4}


@pytest.fixture(scope="module")
def caches(one_process, base_model, chained_additions, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("caches")
    for source, k in SOURCES.items():
        cached(base_model, chained_additions, source, k, folder / source)
    return folder


@pytest.fixture(scope="module")
def padded(base_model, chained_additions, caches):
    found = {}
    for source in ("forward", *SOURCES):
        overrides = () if source == "forward" else from_cache(source, caches / source)
        actor = worker(base_model, "fpa_offline", *overrides)
        drift(actor)
        found[source] = update(actor, batch(chained_additions)[1])
    return found


@pytest.mark.parametrize("shares", [1, 2])
def test_a_packed_step_is_the_padded_one(base_model, chained_additions, caches, padded, tmp_path, shares):
    """Of one process, and of two that share every sequence."""
    arguments = [str(argument) for argument in (base_model, chained_additions, caches, shares)]
    environment = {**os.environ, "WORLD_SIZE": str(shares), "DIST_INIT_METHOD": f"file://{tmp_path}/meeting_point"}
    logs = [tmp_path / f"{rank}.log" for rank in range(shares)]
    processes = []
    try:
        for rank, log in enumerate(logs):
            with log.open("w") as out:
                command = [sys.executable, "-m", "tests.integration.packed_steps", *arguments]
                own = {**environment, "RANK": str(rank), "LOCAL_RANK": "0"}
                root = Path(__file__).parents[2]
                processes.append(subprocess.Popen(command, cwd=root, env=own, stdout=out, stderr=subprocess.STDOUT))
        statuses = [process.wait(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    texts = [log.read_text() for log in logs]
    assert not any(statuses), "\n".join(text[-3000:] for text in texts)
    steps = [json.loads(line) for text in texts for line in text.splitlines() if line.startswith('{"source"')]
    assert [step["source"] for step in steps] == ["forward", *SOURCES]
    for step in steps:
        for name in ("loss", "grad_norm", "right/future_weight", "wrong/future_weight"):
            assert step[name] == pytest.approx(padded[step["source"]][name], rel=2e-5, abs=1e-6), (step["source"], name)
