"""Collecting that is killed: what was written stays, what is missing is asked for."""

from __future__ import annotations

import json

import pytest

from fpa_verl.rollouts import RolloutDataset
from tests.integration.running import train

pytestmark = pytest.mark.slow

OVERRIDES = ("scale.rollouts_per_problem=2", "data.train_batch_size=2")


def shards(folder):
    return {part.name: part.read_bytes() for part in sorted(folder.glob("part-*.parquet"))}


# Without the agent loop worker, which verl starts and nobody asks anything.
NEEDED = ("VLLM::EngineCore", "ray::vLLMHttpServer", "ray::RewardLoopWorker", "ray::TaskRunner")


def test_collecting_goes_on_after_every_death(start, workspace, base_model):
    folder = workspace / "collected"
    overrides = (*OVERRIDES, f"rollouts={folder}", f"run_dir={folder}")
    kept = {}
    for victim in NEEDED:
        running = start("collect", *overrides)
        running.wait_until(lambda: len(shards(folder)) > len(kept))  # noqa: B023
        running.kill(victim)
        assert running.ended() == 1
        assert running.output.strip().splitlines()[-1].startswith("error: ")
        assert not (folder / "manifest.json").exists(), victim
        assert shards(folder).items() >= kept.items()
        kept = shards(folder)
    done = train("collect", workspace, base_model, *overrides)
    # A random model solves nothing, which is said once everything is there.
    assert "nothing to train on" in done.stderr, done.stdout[-3000:] + done.stderr[-3000:]
    assert shards(folder).items() >= kept.items()
    manifest = json.loads((folder / "manifest.json").read_text())
    # 16 problems less the 2 held out, 2 rollouts each, none of them twice.
    assert manifest["counts"]["trajectories"] == 28
    assert manifest["origin"]["problems_missing"] == 0
    assert len(RolloutDataset(folder)) == 0
