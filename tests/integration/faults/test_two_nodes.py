"""A Ray cluster of two nodes on this host, one training worker on each."""

from __future__ import annotations

import os

import pytest

from fpa_verl.runs.run import read_run
from tests.integration.running import SMALL_BATCHES, WITHOUT_VALIDATION, metrics, offline, train

pytestmark = pytest.mark.slow

ON_TWO_NODES = ("trainer.nnodes=2", "trainer.n_gpus_per_node=1")
STEPS = 3


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    resources = {"num_cpus": 16, "num_gpus": 1}
    two = Cluster(initialize_head=True, head_node_args=resources)
    two.add_node(**resources)
    os.environ["RAY_ADDRESS"] = two.address
    yield two
    del os.environ["RAY_ADDRESS"]
    two.shutdown()


@pytest.fixture(scope="module")
def on_one_node(workspace, base_model):
    done = offline(
        workspace,
        base_model,
        f"trainer.total_training_steps={STEPS}",
        "trainer.n_gpus_per_node=2",
        *WITHOUT_VALIDATION,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return metrics(workspace / "fpa_offline")


def test_offline_training_has_the_same_losses(on_one_node, cluster, workspace, base_model):
    run_dir = workspace / "two_nodes"
    done = offline(
        workspace,
        base_model,
        f"trainer.total_training_steps={STEPS}",
        f"trainer.test_freq={STEPS}",
        "trainer.val_before_train=false",
        f"run_dir={run_dir}",
        *ON_TWO_NODES,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    two = metrics(run_dir)
    for step in range(1, STEPS + 1):
        for name in ("actor/pg_loss", "actor/grad_norm"):
            assert two[step][name] == pytest.approx(on_one_node[step][name], rel=2e-4, abs=1e-6), (step, name)
    run = read_run(run_dir)
    assert run.info["hardware"]["devices"] == 2
    assert {point.step for point in run.points} == {STEPS}


def test_grpo_and_collecting(cluster, workspace, base_model):
    done = train(
        "grpo_baseline",
        workspace,
        base_model,
        "scale.online.prompts=4",
        "scale.rollouts_per_problem=4",
        "trainer.total_training_steps=2",
        "trainer.save_freq=-1",
        *WITHOUT_VALIDATION,
        *ON_TWO_NODES,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert metrics(workspace / "grpo_baseline")[2]["training/rollout_probs_diff_max"] < 1e-3
    collected = workspace / "collected"
    done = train(
        "collect",
        workspace,
        base_model,
        f"rollouts={collected}",
        "scale.rollouts_per_problem=2",
        *ON_TWO_NODES,
    )
    # A random model solves nothing: everything was sampled, scored and written all the same.
    assert "nothing to train on" in done.stderr
    assert (collected / "manifest.json").exists()


def test_the_death_of_a_node_is_named_and_the_run_goes_on(cluster, start, workspace, base_model):
    run_dir = workspace / "node_died"
    overrides = (
        *SMALL_BATCHES,
        *WITHOUT_VALIDATION,
        *ON_TWO_NODES,
        "trainer.total_training_steps=8",
        "trainer.total_epochs=3",
        "trainer.save_freq=1",
        f"run_dir={run_dir}",
    )
    running = start("fpa_offline", *overrides)
    running.wait_until(lambda: (run_dir / "run.json").exists() and read_run(run_dir).spending.last_step >= 3)
    # The head runs the driver's actors as well: the other node goes.
    cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
    assert running.ended() == 1
    last = running.output.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "The same command goes on" in last
    # Until Ray has noticed, it would still send work there.
    cluster.wait_for_nodes()
    cluster.add_node(num_cpus=16, num_gpus=1)
    done = offline(workspace, base_model, *overrides[2:])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "goes on after step" in done.stdout
    assert read_run(run_dir).finished
