"""`deterministic=true`: the same seed gives the same training, bit for bit."""

from __future__ import annotations

import pytest
from safetensors import safe_open

from fpa_verl.files import read_json_lines
from tests.integration.running import SMALL_BATCHES, WITHOUT_VALIDATION, metrics, train

pytestmark = pytest.mark.slow

# Clocks and memory differ from run to run.
MEASURED = ("timing_", "perf/", "actor/perf/", "training/num_turns")


def values(run_dir):
    return {
        step: {name: value for name, value in record.items() if not name.startswith(MEASURED)}
        for step, record in metrics(run_dir).items()
    }


def test_same_seed_same_bits_and_another_seed_another_order(workspace, base_model):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        done = train(
            "fpa_offline",
            workspace,
            base_model,
            *SMALL_BATCHES,
            *WITHOUT_VALIDATION,
            "deterministic=true",
            "trainer.total_training_steps=4",
            "trainer.save_freq=4",
            "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]",
            f"data.seed={seed}",
            f"run_dir={workspace}/{name}",
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    one, two, other = (values(workspace / name) for name in ("one", "two", "other"))
    assert one == two
    assert one != other
    assert weights(workspace / "one") == weights(workspace / "two")
    orders = [read_json_lines(workspace / name / "batches.jsonl") for name in ("one", "two", "other")]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def weights(run_dir):
    (file,) = (run_dir / "checkpoints" / "global_step_4").rglob("*.safetensors")
    with safe_open(file, framework="np") as tensors:
        return {name: tensors.get_tensor(name).tobytes() for name in tensors.keys()}  # noqa: SIM118
