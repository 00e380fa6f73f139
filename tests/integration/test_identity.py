"""What run.json says that a run owes, where its model was trained by another."""

from __future__ import annotations

import shutil
import sys
import types

import pytest
import torch

from fpa_verl.errors import MismatchError
from fpa_verl.files import write_json
from fpa_verl.integration.config.identity import describe_run, device_description, run_input
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.policy_losses import offline_policy_loss
from fpa_verl.report.statistics.arms import arms_of
from fpa_verl.runs.inputs import DATASET, MADE_BY, MODEL_FILE, RUN, read_inputs
from fpa_verl.runs.ledger import Cost, Ledger
from fpa_verl.runs.names import RUN_FILE
from fpa_verl.runs.record import open_run, run_fingerprint
from fpa_verl.runs.run import UNKNOWN_DEVICE, read_info, read_run
from tests.integration.running import DEMO, composed


@pytest.fixture
def facts(base_model, chained_additions, tmp_path):
    def of(recipe, model=base_model, *overrides):
        held_out = f"data.val_files=[{chained_additions}/validation.parquet]"
        keys = (
            f"actor_rollout_ref.model.path={model}",
            f"rollouts={chained_additions}",
            f"run_dir={tmp_path}/{recipe}",
        )
        return facts_of(composed(recipe, *DEMO, *keys, held_out, *overrides))

    return of


def inputs_written(facts):
    return read_inputs(describe_run(facts))


def trained(facts, base_model, folder, spent):
    """A copy of the base model that an FPA run says it trained, in forty steps."""
    shutil.copytree(base_model, folder)
    about = run_input(facts, describe_run(facts), 40, spent)
    write_json(folder / MODEL_FILE, {"step": 40, MADE_BY: about.as_json()})
    return folder


def test_going_on_from_a_model_owes_its_run_and_what_that_owed(facts, base_model, tmp_path):
    offline = facts("fpa_offline")
    assert [one.kind for one in inputs_written(offline)] == [DATASET]
    model = trained(offline, base_model, tmp_path / "best", Cost(800.0, 800.0))
    (run,) = inputs_written(facts("grpo_baseline", model))
    assert (run.kind, run.device_seconds) == (RUN, 800.0)
    assert (run.about["recipe"], run.about["step"], run.about["chosen"]) == ("fpa_offline", 40, True)
    assert run.base_model == offline.model["model"]
    assert [one.kind for one in run.inputs] == [DATASET]
    # What goes on from there descends from the same base model.
    online = facts("grpo_baseline", model)
    again = trained(online, base_model, tmp_path / "again", Cost(100.0, 100.0))
    (second,) = inputs_written(facts("evaluate", again))
    assert (second.base_model, second.about["recipe"]) == (offline.model["model"], "grpo_baseline")
    assert [one.kind for one in second.inputs] == [RUN]


def test_runs_that_go_on_from_seeds_of_one_another_are_seeds_of_one_another(facts, base_model, tmp_path):
    """Whatever the folders, seeds and weights of those, and whichever step of theirs was the best."""

    def alike(seed, *words, chosen=True, step=40):
        first = facts("fpa_offline", base_model, f"data.seed={seed}", f"run_dir={tmp_path}/fpa{seed}", *words)
        folder = tmp_path / f"{seed}{len(words)}{chosen}{step}" / ("best" if chosen else f"step_{step}")
        about = run_input(first, describe_run(first), step, Cost(800.0, 800.0))
        shutil.copytree(base_model, folder)
        write_json(folder / MODEL_FILE, {"step": step, MADE_BY: about.as_json()})
        run, *_ = inputs_written(facts("grpo_baseline", folder))
        assert run.fingerprint == run_fingerprint(f"{tmp_path}/fpa{seed}", describe_run(first))
        return run.alike

    assert alike(1) == alike(2) == alike(3, step=20)
    assert alike(1, chosen=False) == alike(2, chosen=False)
    assert len({alike(4), alike(4, "scale.lam=5"), alike(4, chosen=False), alike(4, chosen=False, step=20)}) == 4


def test_a_run_is_known_again_by_its_folder_and_run_json(facts, tmp_path):
    """`report --compare paper` finds so which run trained a model that was evaluated."""
    offline = facts("fpa_offline")
    open_run(tmp_path / "run", describe_run(offline))
    read = read_info(tmp_path / "run" / RUN_FILE)
    owed = run_input(offline, describe_run(offline), 40, Cost())
    assert owed.fingerprint == run_fingerprint(owed.folder, read)
    assert read["model"] == offline.model_path
    # A copy of the model in another place is the same model, and the run may go on from it.
    open_run(tmp_path / "run", {**describe_run(offline), "model": "elsewhere"})


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        (("off_rl",), 0),
        (("off_rl", "actor_rollout_ref.actor.policy_loss.track_reference=true"), 1),
        (("fpa_offline",), 1),
        # z0, from a pass of policy and reference, before the step's own pass of the reference.
        (("kto",), 3),
        # Its passes have a phase of their own.
        (("grpo_baseline", "actor_rollout_ref.actor.use_kl_loss=true"), 0),
    ],
)
def test_a_run_says_what_forward_passes_its_training_is_timed_with(facts, base_model, words, passes):
    recipe, *overrides = words
    assert describe_run(facts(recipe, base_model, *overrides))["forward_passes"] == passes


@pytest.mark.parametrize("source", ["hidden", "topk"])
def test_a_cache_leaves_the_pass_of_z0_alone(source):
    cached = offline_policy_loss("kto", reference=source, reference_cache="cache")
    assert (cached.passes_reference, cached.forward_passes) == (False, 1)
    assert offline_policy_loss("fpa", reference=source, reference_cache="cache").forward_passes == 0


@pytest.mark.parametrize("recipe", ["fpa_offline", "grpo_baseline"])
def test_a_run_with_lora_is_no_seed_of_one_without_or_with_another_adapter(facts, base_model, tmp_path, recipe):
    rank, targets = "actor_rollout_ref.model.lora_rank", "actor_rollout_ref.model.target_modules=[q_proj,v_proj]"
    chosen = {"full": (), "eight": (f"{rank}=8",), "sixteen": (f"{rank}=16",), "two": (f"{rank}=8", targets)}
    about = {name: describe_run(facts(recipe, base_model, *keys)) for name, keys in chosen.items()}
    trained = {name: one["training"] for name, one in about.items()}
    # Runs of before say nothing of it.
    assert not [name for name in trained["full"] if "lora" in name or "modules" in name]
    assert {**trained["full"], "lora_rank": 8, "lora_alpha": 16, "target_modules": "all-linear"} == trained["eight"]
    assert trained["two"]["target_modules"] == ["q_proj", "v_proj"]
    runs = []
    for name, one in about.items():
        open_run(tmp_path / name, one)
        Ledger(tmp_path / name, devices=1, started_at=0.0).write("end", 1, total_steps=1)
        runs.append(read_run(tmp_path / name))
    assert len(arms_of(runs)) == len(chosen)
    with pytest.raises(MismatchError):
        open_run(tmp_path / "eight", about["sixteen"])


class FakeNvml(types.ModuleType):
    """NVML of a machine with two GPUs, which torch does not see here."""

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return ["NVIDIA H200", "NVIDIA H100", "NVIDIA H100 MIG 1g.12gb"][handle]

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 2

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return [b"GPU-8f01", b"GPU-8f92"][handle]

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        return {"MIG-77": 2}[uuid]


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        ("", "NVIDIA H200"),
        ("1", "NVIDIA H100"),
        ("GPU-8f92,GPU-8f01", "NVIDIA H100"),
        ("GPU-8f0", "NVIDIA H200"),
        ("MIG-77", "NVIDIA H100 MIG 1g.12gb"),
    ],
)
def test_the_device_is_named_where_ray_has_hidden_it(monkeypatch, visible, name):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml("pynvml"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device_description("cuda") == name
    # A run on the processor of such a machine is one on a processor.
    assert device_description("cpu").startswith("CPU (")


def test_a_device_that_nobody_can_name_is_none_that_is_compared(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_description("cuda") == UNKNOWN_DEVICE
