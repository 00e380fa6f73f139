"""recipe=svpo by the real command, with the demo's base model: trained, kept, resumed, gone on from, evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fpa_verl.demo import task
from fpa_verl.demo.make import place_base_model
from fpa_verl.files import read_json_lines
from fpa_verl.objectives.value_head import FILE, ValueHead
from fpa_verl.rollouts.problems import Problem, write_problems
from fpa_verl.runs.run import read_run
from fpa_verl.trees import TreeDataset
from tests.integration.running import CONSTANT_RATE, WITHOUT_VALIDATION, metrics, train
from tests.integration.step_pairs import write_step_pairs

pytestmark = pytest.mark.patient
STEPS = 4
LOGGED = ("preference", "likelihood", "value_regression", "value_ranking", "value_error", "values_in_order")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("svpo")
    place_base_model(folder, "slips")
    write_step_pairs(folder / "rollouts", folder / "base_model")
    return folder


def svpo(workspace: Path, name: str, steps: int, *overrides: str) -> Path:
    """A run without an engine, of batches of eight pairs, whose model is kept every other step."""
    done = train(
        "svpo",
        workspace,
        workspace / "base_model",
        *("data.train_batch_size=8", "actor_rollout_ref.actor.optim.lr=1e-3", CONSTANT_RATE, "trainer.save_freq=2"),
        *("snapshots.every=2", "deterministic=true", "data.val_files=[]", *WITHOUT_VALIDATION),
        *(f"trainer.total_training_steps={steps}", f"run_dir={workspace}/{name}", *overrides),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return workspace / name


@pytest.fixture(scope="module")
def whole_run(workspace) -> Path:
    return svpo(workspace, "whole", STEPS)


def snapshot(run_dir: Path, step: int) -> Path:
    return run_dir / "snapshots" / f"step_{step}"


def test_terms_and_values_are_logged_and_the_values_learn(whole_run):
    found = metrics(whole_run)
    assert list(found) == list(range(1, STEPS + 1))
    assert all(f"actor/{name}" in found[step] for step in found for name in LOGGED)
    assert found[STEPS]["actor/value_error"] < found[1]["actor/value_error"]
    info = read_run(whole_run).info
    assert info["training"]["objective"] == "svpo"
    assert info["training"]["hyper_parameters"]["rank"] == "hinge"
    # The reference's.
    assert info["forward_passes"] == 1


def test_models_are_kept_with_their_heads(whole_run):
    two, four = (ValueHead.load(snapshot(whole_run, step)) for step in (2, 4))
    assert not torch.equal(two.linear.weight, four.linear.weight)
    names = load_file(snapshot(whole_run, STEPS) / "model.safetensors")
    assert not any(name.startswith("value_head") for name in names)


@pytest.mark.slow
def test_a_resumed_run_comes_to_the_same_bits(whole_run, workspace):
    """With dropout."""
    svpo(workspace, "resumed", 2)
    resumed = svpo(workspace, "resumed", STEPS)
    assert [record["attempt"] for record in read_json_lines(resumed / "batches.jsonl")] == [1, 1, 2, 2]
    for file in ("model.safetensors", FILE):
        one, other = (load_file(snapshot(run, STEPS) / file) for run in (whole_run, resumed))
        assert all(torch.equal(one[name], other[name]) for name in one), file


@pytest.mark.slow
def test_a_run_that_starts_from_another_goes_on_with_its_head(whole_run, workspace):
    """At a rate that moves nothing."""
    write_step_pairs(workspace / "later_rollouts", snapshot(whole_run, STEPS))
    begins = (f"start_from={snapshot(whole_run, STEPS)}", f"rollouts={workspace}/later_rollouts")
    frozen = "actor_rollout_ref.actor.optim.lr=1e-12"
    further = svpo(workspace, "further", 2, *begins, frozen)
    one, other = (ValueHead.load(snapshot(run, step)) for run, step in ((whole_run, STEPS), (further, 2)))
    torch.testing.assert_close(other.linear.weight, one.linear.weight, rtol=0, atol=1e-9)


@pytest.mark.engine
@pytest.mark.slow
def test_a_search_goes_by_the_head_that_a_run_has_left(whole_run, workspace):
    """Backed up from leaves at which no solution ends, where values are 0 without it."""
    problems = [
        Problem.from_text(f"t{i}", problem.text, problem.answer, task.DATA_SOURCE)
        for i, problem in enumerate(task.distinct_problems(8, seed=9))
    ]
    write_problems(workspace / "searched.parquet", problems, "train")
    words = (f"problems.train={workspace}/searched.parquet", "validation.fraction=0", "tree.simulations=8")
    totals = []
    for name, more in (("without", ()), ("with", (f"tree.value_model={snapshot(whole_run, STEPS)}",))):
        done = train("collect_tree", workspace, workspace / "base_model", f"trees={workspace}/{name}", *words, *more)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        trees = TreeDataset(workspace / name)
        assert ("values" in trees.manifest.search) == (name == "with")
        totals.append([node.total for tree in trees for node in tree.nodes])
    assert all(total == int(total) for total in totals[0])
    assert any(total != int(total) for total in totals[1])


@pytest.mark.engine
@pytest.mark.slow
def test_vllm_serves_a_model_that_has_a_head_beside_it(whole_run, workspace):
    problems = [
        Problem.from_text(f"t{i}", problem.text, problem.answer, task.DATA_SOURCE)
        for i, problem in enumerate(task.distinct_problems(8, seed=9))
    ]
    write_problems(workspace / "problems.parquet", problems, "test")
    done = train("evaluate", workspace, snapshot(whole_run, STEPS), f"data.val_files=[{workspace}/problems.parquet]")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
