"""Looks at a policy whose training is killed: it goes on with what is on the disk."""

from __future__ import annotations

import pytest

from fpa_verl.runs.metrics import read_metrics
from fpa_verl.runs.run import read_run
from tests.integration.running import SMALL_BATCHES, WITHOUT_VALIDATION, offline

pytestmark = pytest.mark.slow

RUN = (
    *SMALL_BATCHES,
    *WITHOUT_VALIDATION,
    "scale.lam=auto",
    "trainer.total_training_steps=12",
    "trainer.total_epochs=3",
    "trainer.save_freq=1",
    "foresight.looks=6",
    "foresight.trajectories=12",
)


def looked(run_dir):
    return {name: values for name, values in read_metrics(run_dir).items() if name.startswith("foresight/")}


def test_a_kill_changes_neither_what_was_foreseen_nor_lambda(start, workspace, base_model):
    whole, killed = workspace / "foreseen", workspace / "foreseen_killed"
    done = offline(workspace, base_model, *RUN, f"run_dir={whole}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    running = start("fpa_offline", *RUN, f"run_dir={killed}")
    running.wait_until(
        lambda: (killed / "run.json").exists() and read_run(killed).spending.last_step >= 7,
    )
    running.kill_driver()
    assert list((killed / "foresight").glob("step_0.*.safetensors")), "nothing to go on with"
    done = offline(workspace, base_model, *RUN, f"run_dir={killed}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "goes on after step" in done.stdout
    one, other = looked(whole), looked(killed)
    assert one.keys() == other.keys()
    assert set(one["foresight/1/lambda"]) == {4, 6, 8, 10, 12}
    assert set(one["foresight/4/lambda"]) == {10, 12}
    for name in one.keys() - {"foresight/seconds"}:
        # A step is trained before it is logged: the kill may fall between the two.
        assert len(one[name].keys() - other[name].keys()) <= 1, name
        for step, value in other[name].items():
            assert value == pytest.approx(one[name][step], rel=1e-3, abs=1e-4), (name, step)
    assert not (killed / "foresight").exists()
