"""Bad input: one line that says what is wrong and what to type, before Ray starts."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from fpa_verl.demo.model import character_tokenizer, small_qwen3
from fpa_verl.errors import ConfigError, DatasetError, FpaError, IntegrationError, MismatchError
from fpa_verl.integration.command import doctor, preflight
from fpa_verl.integration.command.checks import disk, gpu
from fpa_verl.integration.config import versions
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.config.typed_command import COMMAND
from fpa_verl.rollouts import RolloutDataset
from tests.integration.running import DEMO, composed

UPDATE_TOKENS = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
PASS_TOKENS = "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu"
MODEL = "actor_rollout_ref.model"
FILTERED = ("algorithm.filter_groups.enable=true", "algorithm.filter_groups.metric=null")
VERLS_ASYNC = ("trainer.v1.trainer_mode=separate_async",)
ON_GPUS = (
    "trainer.device=cuda",
    "trainer.n_gpus_per_node=2",
    "~actor_rollout_ref.model.override_config.attn_implementation",
)
DEPRECATED = "actor_rollout_ref.actor.ulysses_sequence_parallel_size"


@pytest.fixture
def check(base_model, chained_additions):
    def run(*overrides: str, recipe: str = "fpa_offline") -> None:
        held_out = f"data.val_files=[{chained_additions}/validation.parquet]"
        paths = (f"actor_rollout_ref.model.path={base_model}", f"rollouts={chained_additions}", held_out)
        preflight.check(facts_of(composed(recipe, *DEMO, *paths, *overrides)))

    return run


def test_a_sound_recipe_passes(check):
    check()
    check("data.selection.unit=group", "data.train_batch_size=4", "actor_rollout_ref.rollout.n=4")
    check("evaluation.samples=1", recipe="evaluate")
    for recipe in ("fpa_offline", "dpo", "cache_reference", "grpo_baseline"):
        check(f"{MODEL}.lora_rank=8", f"{MODEL}.lora_alpha=16", recipe=recipe)
    check(f"{MODEL}.lora_rank=8", f"{MODEL}.target_modules=[q_proj,mlp.down_proj]")
    check(f"{MODEL}.lora_rank=8", f"{MODEL}.target_modules='.*self_attn.._proj'")
    check(f"{MODEL}.lora_rank=8", f"{MODEL}.target_modules='.*'", f"{MODEL}.exclude_modules='.*(head|embed).*'")
    check("actor_rollout_ref.rollout.val_kwargs.temperature=0", recipe="evaluate")


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["rollouts=nowhere"], DatasetError, "no rollout dataset at nowhere.*recipe=collect"),
        (["data.train_batch_size=4096"], DatasetError, "fewer than one batch of 4096.*Lower data.train_batch_size"),
        (["actor_rollout_ref.model.path=/nowhere"], ConfigError, "no model at /nowhere"),
        (["actor_rollout_ref.actor.policy_loss.lam=-1"], ConfigError, "lam=-1: fpa needs auto, or a number"),
        (["actor_rollout_ref.actor.policy_loss.loss_mode=vanilla"], ConfigError, "the offline trainer has a_star_po, "),
        (["actor_rollout_ref.actor.policy_loss.loss_mode=off_rl"], ConfigError, "lam=2.0 does not apply to off_rl"),
        # hydra deletes nothing that is null.
        (["actor_rollout_ref.actor.policy_loss._target_=verl.workers.config.PolicyLossConfig",
          "actor_rollout_ref.actor.policy_loss.reference_model=x",
          *(f"~actor_rollout_ref.actor.policy_loss.{key}"
            for key in ("lam", "scoring_temperature", "forward_kl_coef", "forward_kl_over", "forward_kl_estimate",
                        "track_reference", "reference", "reference_cache", "reference_model"))],
         ConfigError, "policy_loss._target_: the offline trainer needs"),
        (["actor_rollout_ref.actor.use_kl_loss=true"], ConfigError, "forward_kl_coef"),
        (["actor_rollout_ref.rollout.n=8"], ConfigError, "rollout.n=8: an item.*set it to 1"),
        (["actor_rollout_ref.actor.ppo_mini_batch_size=8"], ConfigError, "a batch is one update"),
        (["actor_rollout_ref.actor.shuffle=true"], ConfigError, "shuffle=True"),
        (["actor_rollout_ref.model.use_fused_kernels=true"], ConfigError, "use_fused_kernels=true hides the logits"),
        ([f"{MODEL}.lora_rank=-1"], ConfigError, "model.lora_rank=-1: a whole number of at least 0"),
        ([f"{MODEL}.lora_rank=8", f"{MODEL}.lora_alpha=0"], ConfigError, "lora_alpha=0: a whole number of at least 1"),
        ([f"{MODEL}.lora_rank=8", "actor_rollout_ref.actor.strategy=fsdp"], ConfigError, "strategy=fsdp: an adapter i"),
        ([f"{MODEL}.lora_rank=8", f"{MODEL}.lora_adapter_path=a"], ConfigError, "path=a: runs begin at .*peft"),
        (["recipe=evaluate", f"{MODEL}.lora_adapter_path=a"], ConfigError, "path=a: .*and give that model$"),
        ([f"{MODEL}.lora_rank=8", f"+{MODEL}.target_parameters=[w]"], ConfigError, r"=\['w'\]: an adapter of bare par"),
        ([f"{MODEL}.lora_rank=8", f"{MODEL}.target_modules=[q_proj,v_prj]"], ConfigError, "=v_prj: .* layers: q_proj,"),
        ([f"{MODEL}.lora_rank=8", f"{MODEL}.target_modules=[lm_head]"], ConfigError, "adapts lm_head, .* leave"),
        ([f"{MODEL}.lora_rank=8", f"{MODEL}.target_modules=[q_proj,embed_tokens]"], ConfigError, "adapts embed_tokens"),
        ([f"{MODEL}.lora_rank=8", f"{MODEL}.target_modules='.*'"], ConfigError, "adapts embed_tokens"),
        ([f"{MODEL}.lora_rank=8", f"{MODEL}.target_modules=[v_prj]"], ConfigError, ": (?!.*lm_head)"),
        ([f"{MODEL}.lora_rank=8", f"{MODEL}.target_modules='.*attn.x'"], ConfigError, "attn.x: .* has no such module;"),
        (["actor_rollout_ref.actor.optim.lr=-1"], ConfigError, "actor.optim.lr=-1: a number of at least 0"),
        (["trainer.total_training_steps=0"], ConfigError, "total_training_steps=0: null, or a whole number"),
        (["recipe=grpo_baseline", "trainer.total_epochs=0"], ConfigError, "total_epochs=0: a whole number of"),
        (["recipe=grpo_baseline", f"{MODEL}.lora.rank=8"], ConfigError, "is Megatron's: set .*model.lora_rank"),
        ([f"{DEPRECATED}=2"], ConfigError, "which the reference follows"),
        (["recipe=cache_reference", "reference.k=0"], ConfigError, "reference.k=0: a whole number of at least 1"),
        (["recipe=cache_reference", f"{UPDATE_TOKENS}=16"], ConfigError, "one micro-batch"),
        (["recipe=kto", f"{PASS_TOKENS}=16"], ConfigError, "log_prob_max_token"),
        (["recipe=grpo_baseline", f"{DEPRECATED}=2"], ConfigError, "deprecated"),
        (["recipe=cache_reference", "reference.samples=1"], ConfigError, "samples=1: a whole number of at least 2"),
        (["recipe=cache_reference", "reference.k=999999"], ConfigError, "k=999999: set it to the vocabulary's"),
        (["collapse.floor=1.5"], ConfigError, "collapse.floor=1.5: a share between 0 and 1"),
        (["collapse.action=end"], ConfigError, "one of ignore, warn, stop"),
        (["actor_rollout_ref.actor.checkpoint.async_save=true"], ConfigError, "when such a checkpoint is whole"),
        (["trainer.max_actor_ckpt_to_keep=2.5"], ConfigError, "^trainer.max_actor_ckpt_to_keep=2.5: null, or a whole"),
        (["trainer.v1.sampler.custom_sampler.path=null"], ConfigError, "wait for a dead rollout server without end"),
        (["trainer.use_v1=false"], ConfigError, "use_v1=false asks for verl's former trainers"),
        (["recipe=grpo_baseline", *VERLS_ASYNC], ConfigError, "separate_async samples from a buffer of its own: set"),
        (["recipe=grpo_baseline", *FILTERED], ConfigError, "set algorithm.filter_groups.metric to what groups are"),
        (["recipe=evaluate", "actor_rollout_ref.rollout.agent.agent_loop_config_path=loops.yaml"],
         ConfigError, "asks for loops.yaml: set evaluation.seeded=false"),
        (["early_stopping.patience=0"], ConfigError, "early_stopping.patience=0: null, or"),
        (["early_stopping.patience=true"], ConfigError, "patience=True: null, or a whole number of at least 1$"),
        (["recipe=evaluate", "evaluation.samples=0"], ConfigError, "^evaluation.samples=0: null, or a whole number"),
        (["recipe=evaluate", "evaluation.samples=-8"], ConfigError, "evaluation.samples=-8: null, or a whole number"),
        (["recipe=evaluate", "evaluation.samples=2.5"], ConfigError, "evaluation.samples=2.5: null, or a whole number"),
        (["recipe=evaluate", "evaluation.samples=many"], ConfigError, "evaluation.samples=many: null, or a whole num"),
        (["recipe=evaluate", "+evaluation.temperature=0.5"], ConfigError, "temperature=0.5.*rollout.val_kwargs"),
        (["+evaluation.temperature=0.5"], ConfigError, "temperature=0.5.*rollout.val_kwargs"),
        (["actor_rollout_ref.rollout.val_kwargs.n=3"], ConfigError, "val_kwargs.n=3: set evaluation.samples"),
        (["data.val_max_samples=20"], ConfigError, "val_max_samples=20 would change nothing: set evaluation.samples"),
        (["trainer.validation_data_dir=x"], ConfigError, "validation_data_dir=x would change nothing: the answers are"),
        (["data.train_batch_size=many"], ConfigError, "data.train_batch_size=many: a whole number of at least 1$"),
        (["recipe=evaluate", "data.train_batch_size=0"], ConfigError, "data.train_batch_size=0: a whole number of at"),
        (["data.max_response_length=-1"], ConfigError, "data.max_response_length=-1: a whole number of at least 1$"),
        (["scale.eval_samples=0"], ConfigError, "rollout.val_kwargs.n=0: a whole number of at least 1$"),
        (["actor_rollout_ref.rollout.val_kwargs.temperature=-0.7"], ConfigError, "temperature=-0.7: a number of at l"),
        (["actor_rollout_ref.rollout.val_kwargs.temperature=.nan"], ConfigError, "temperature=.nan: a number of at "),
        (["actor_rollout_ref.rollout.val_kwargs.top_p=0"], ConfigError, "top_p=0: a number above 0 and of at most 1$"),
        (["recipe=evaluate", "actor_rollout_ref.rollout.val_kwargs.top_p=1.5"], ConfigError, "kwargs.top_p=1.5: a nu"),
        (["actor_rollout_ref.rollout.val_kwargs.top_k=0.5"], ConfigError, "top_k=0.5: a whole number of at least -1$"),
        (["recipe=collect", "scale.rollouts_per_problem=0"], ConfigError, "rollout.n=0: a whole number of at least 1$"),
        (["recipe=grpo_baseline", "scale.online.temperature=0"], ConfigError, "rollout.temperature=0: a number above"),
        (["early_stopping.patience=2", "trainer.test_freq=-1"], ConfigError, "set trainer.test_freq above 0"),
        (["reference.source=topk"], DatasetError, "no reference cache at .*topk.*recipe=cache_reference"),
        (["reference.source=memory"], ConfigError, "choose from forward, hidden, topk, chosen"),
        (["recipe=off_rl_kl", "reference.source=topk"], ConfigError, "keeps no whole distribution.*forward or hidden"),
        (["recipe=cache_reference", "reference.source=forward"], ConfigError, "makes one of hidden, topk, chosen"),
        (["data.selection.unit=pair"], ConfigError, "fpa learns from single trajectories"),
        (["recipe=dpo", "data.selection.unit=trajectory", "data.selection.pairs_per_group=null"],
         ConfigError, "dpo learns from pairs"),
        (["data.selection.pairs_per_group=4"], ConfigError, "pairs_per_group=4.*unit=pair or"),
        (["recipe=sft", "data.selection.unit=group"], ConfigError, "outcomes=right leaves no group"),
        (["data.selection.outcomes=neither"], ConfigError, "outcomes=neither: choose from both, right, wrong"),
        (["data.train_batch_size=3", "trainer.n_gpus_per_node=2"], ConfigError, "does not divide among 2 workers"),
        (["actor_rollout_ref.actor.loss_agg_mode=token-mean"], ConfigError, "set it to seq-mean-token-mean"),
        (["actor_rollout_ref.actor.ppo_epochs=2"], ConfigError, "set it to 1"),
        ([f"{UPDATE_TOKENS}=16"], ConfigError, "one micro-batch; set it"),
        (["actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size=2"], ConfigError, "and flash-attn; set"),
        (["data.selection.unit=group", "data.train_batch_size=4"], ConfigError, "rollout.n=1: an item.*set it to 4"),
        (["trainer.total_training_steps=999", "trainer.total_epochs=2"], ConfigError, "raise trainer.total_epochs"),
        (["data.selection.unit=tree"], FpaError, "data.selection.unit=tree"),
        (["data.val_files=[gone.parquet]"], DatasetError, "problem file.*val_files"),
    ],
)  # fmt: skip
def test_bad_input(check, overrides, error, message):
    with pytest.raises(error, match=message) as caught:
        check(*overrides)
    assert "\n" not in str(caught.value)


def test_a_trainer_of_verls_own_may_have_its_own_buffer(check):
    check(*VERLS_ASYNC, "trainer.v1.sampler.custom_sampler.path=null", recipe="grpo_baseline")


def test_the_online_run_wants_the_split_that_collect_makes(check, tmp_path):
    with pytest.raises(DatasetError, match=r"recipe=collect.*data.train_files=\[FILE\] data.val_files=\[OTHER_FILE\]$"):
        check(f"rollouts={tmp_path}", recipe="grpo_baseline")


def test_an_online_run_on_problems_of_ones_own_wants_others_to_be_evaluated_on(check, chained_additions, tmp_path):
    mine = f"data.train_files=[{chained_additions}/train.parquet]"
    held_out = f"data.val_files=[{tmp_path}/validation.parquet]"
    message = r"validation.parquet, the held-out problems .*recipe=collect.*or name .* data.val_files=\[FILE\]$"
    with pytest.raises(DatasetError, match=message):
        check(f"rollouts={tmp_path}", mine, held_out, recipe="grpo_baseline")


def test_an_online_run_has_room_for_its_longest_answer(check, chained_additions):
    with pytest.raises(ConfigError, match=r"ppo_max_token_len_per_gpu=64: up to 80 tokens .* set it to 80 or more"):
        check(f"{UPDATE_TOKENS}=64", recipe="grpo_baseline")


def test_a_gpu_recipe_on_a_machine_without_one(check, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(IntegrationError, match="no GPU on this machine: add hardware=cpu"):
        check("trainer.device=cuda")


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A driver that tells its version, of a GPU that torch does not see."""
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "version")
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 11\n"
    )


@pytest.mark.parametrize(
    ("built_for", "message"),
    [
        (
            "13.0",
            r"\(driver 550.54.15\), but torch .*, built for CUDA 13.0, cannot use it: it wants driver 580",
        ),
        (
            None,
            r"\(driver 550.54.15\), but torch .* is a build for CPUs: .* and there, in a clone .* pip",
        ),
        ("99.1", "cannot use it: the driver may be too old; `nvidia-smi` shows the driver"),
    ],
)
def test_a_gpu_that_this_torch_cannot_use(check, monkeypatch, driver, built_for, message):
    monkeypatch.setattr(torch.version, "cuda", built_for)
    with pytest.raises(IntegrationError, match=message):
        check(*ON_GPUS)
    (found,) = [one for one in doctor.examine([], with_ray=False) if one.subject == "accelerator"]
    assert found.state == "wrong"
    assert re.search(message, found.detail)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("echo 550.90; echo 550.90", r"\(driver 550.90\).* it wants driver 580"),
        ("true", r"\(driver of unknown version\).*the driver may be too old"),
        (
            "echo it has failed >&2; exit 9",
            r"no GPU can be used: nvidia-smi is here and fails \(it has failed\); have the driver mended, or add",
        ),
    ],
)
def test_a_driver_that_only_its_program_tells_of(check, monkeypatch, tmp_path, program, message):
    """In WSL, and in containers that hide the rest."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(IntegrationError, match=message):
        check(*ON_GPUS)
    (found,) = [one for one in doctor.examine([], with_ray=False) if one.subject == "accelerator"]
    assert found.state == "wrong"
    assert re.search(message, found.detail)


@pytest.mark.parametrize(
    ("built_for", "visible", "message"),
    [
        ("12.8", None, r"cannot use it: the driver is new enough, so the container or job .*nvidia-fabricmanager"),
        ("12.8", "", r"cannot use it: CUDA_VISIBLE_DEVICES= may hide it: unset it"),
        ("13.0", "7", r"cannot use it: it wants driver 580 or newer"),
    ],
)
def test_a_driver_that_is_new_enough_is_not_blamed(check, monkeypatch, driver, built_for, visible, message):
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(IntegrationError, match=message):
        check(*ON_GPUS)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("trainer.nnodes=2",), r"trainer.nnodes=2: without RAY_ADDRESS a run stays on its machine"),
        (("trainer.n_gpus_per_node=null",), r"trainer.n_gpus_per_node=None: a whole number of at least 1"),
        (("trainer.nnodes=0",), r"trainer.nnodes=0: a whole number of at least 1"),
    ],
)
def test_devices_that_cannot_be(check, monkeypatch, overrides, message):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for more in ((), ON_GPUS[:1] + ON_GPUS[2:]):
        with pytest.raises(ConfigError, match=message):
            check(*more, *overrides)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ("flash_attention_2", IntegrationError, "flash_attn is not installed"),
        ("nonsense", ConfigError, r"attn_implementation=nonsense: transformers knows eager, .*sdpa"),
        ("flash_attention_3", IntegrationError, "=flash_attention_3: flash-attn-3 is not installed, .* packed_sdpa"),
        ("flash_attention_4", IntegrationError, "=flash_attention_4: flash-attn-4 is not installed, .* packed_sdpa"),
        ("packed_sdpa", None, None),
        ("eager", None, None),
    ],
)
def test_an_attention_that_is_named(check, monkeypatch, asked, error, message):
    monkeypatch.setenv("RAY_ADDRESS", "cluster:6379")
    with pytest.raises(error, match=message) if error else nullcontext():
        check(*ON_GPUS[:2], "trainer.n_gpus_per_node=1", f"{MODEL}.override_config.attn_implementation={asked}")


@pytest.mark.parametrize("package", ["flash-attn-3", "kernels"])
def test_an_attention_whose_package_is_there(check, monkeypatch, package):
    """Its own, or the one by which transformers fetches it."""
    monkeypatch.setenv("RAY_ADDRESS", "cluster:6379")
    monkeypatch.setattr(gpu, "installed", lambda name: "3" if name == package else None)
    check(*ON_GPUS[:2], f"{MODEL}.override_config.attn_implementation=flash_attention_3")


@pytest.mark.parametrize(("asked", "recipe", "notes"), [
    ("sdpa", "off_rl", 1), ("eager", "off_rl", 1), ("packed_sdpa", "off_rl", 0), ("sdpa", "evaluate", 0)
])  # fmt: skip
def test_an_attention_that_spends_more_than_another_is_noted(asked, recipe, notes):
    facts = facts_of(composed(recipe, *DEMO, f"{MODEL}.override_config.attn_implementation={asked}"))
    said = list(gpu.notes(facts))
    assert len(said) == notes
    assert all("packed_sdpa takes each sequence by itself" in one for one in said)


@pytest.mark.parametrize(
    ("visible", "hidden"), [(None, "here;"), ("1", r"here \(CUDA_VISIBLE_DEVICES=1 may hide others\);")]
)
def test_fewer_gpus_than_the_recipe_wants(check, monkeypatch, visible, hidden):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    message = f"n_gpus_per_node=2: torch sees 1 {hidden} set trainer.n_gpus_per_node=1, where .* plan --memory --model"
    with pytest.raises(ConfigError, match=message):
        check(*ON_GPUS)


def test_flash_attention_for_another_torch(check, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    (tmp_path / "flash_attn.py").write_text("raise ImportError('undefined symbol: _ZN3c105ErrorC2E\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(IntegrationError, match=r"cannot be loaded, .*\(undefined symbol: _ZN3c105ErrorC2E\): pip"):
        check(*ON_GPUS)


def test_a_gpu_without_flash_attention(check, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "cluster:6379")
    with pytest.raises(IntegrationError, match=r"flash_attn is not installed: pip install --no-deps .*flash-attn==2"):
        check(*ON_GPUS)


@pytest.mark.parametrize(
    ("changes", "has"),
    [
        ({"sliding_window": 8, "use_sliding_window": True}, "attends to windows of 8 tokens"),
        ({"sliding_window": 8, "use_sliding_window": False}, None),
        ({"sliding_window": 4096, "use_sliding_window": True}, None),
        ({"attn_logit_softcapping": 30.0}, "caps the scores of its attention"),
    ],
)
def test_a_model_whose_attention_is_another_than_torch_s_own_for_packed_sequences(tmp_path, base_model, changes, has):
    config = json.loads((base_model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    facts = facts_of(composed("off_rl", *DEMO, f"{MODEL}.path={tmp_path}"))
    with pytest.raises(ConfigError, match=has) if has else nullcontext():
        gpu.require_whole_attention(facts)


def test_a_later_flash_attention_that_has_only_the_name(check, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", "cluster:6379")
    (tmp_path / "flash_attn" / "cute").mkdir(parents=True)
    (tmp_path / "flash_attn" / "cute" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(IntegrationError, match=r"flash_attn.bert_padding is not installed: pip install --no-deps"):
        check(*ON_GPUS)


def test_a_prompt_that_the_task_overrides_is_refused(check, monkeypatch):
    monkeypatch.setenv(COMMAND, "python -m verl.trainer.main recipe=fpa_offline task=words prompt=paper")
    with pytest.raises(ConfigError, match=r"prompt=paper: the task's file has a prompt of its own, 'chat'"):
        check()
    monkeypatch.setenv(COMMAND, "python -m verl.trainer.main recipe=fpa_offline task=words prompt=chat")
    check()


def test_the_best_model_of_a_run_that_left_none(check, tmp_path):
    (tmp_path / "fpa").mkdir()
    (tmp_path / "fpa" / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"the run in .*fpa left none of that name\. Where no validation beat"):
        check(f"actor_rollout_ref.model.path={tmp_path}/fpa/best", recipe="evaluate")


def test_a_disk_without_room_for_the_checkpoints(check, monkeypatch, base_model):
    parameters = disk.parameters_of(str(base_model))
    assert parameters == sum(tensor.numel() for tensor in load_file(base_model / "model.safetensors").values())
    room = parameters * (3 * 12 + 4)
    for free, fits in ((room, True), (room - 1, False)):
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        with nullcontext() if fits else pytest.raises(ConfigError, match=r"take up to .* GB, .* more than are free"):
            check("trainer.save_freq=10", "foresight.looks=0")
        # Half of it, or none at all.
        check("trainer.save_freq=-1")
        check("trainer.save_freq=10", "actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.model.lora_alpha=16")


def test_a_disk_without_room_for_all_checkpoints(check, monkeypatch, base_model, chained_additions):
    """`null` keeps all of them; how many that are, the epochs say."""
    steps = ("trainer.total_training_steps=null", "trainer.save_freq=2", "foresight.looks=0")
    small = ("data.train_batch_size=4", *steps)
    parameters = disk.parameters_of(str(base_model))
    for epochs in (1, 3):
        words = (*small, f"trainer.total_epochs={epochs}", "trainer.max_actor_ckpt_to_keep=null", "keep_best=false")
        config = composed("fpa_offline", *DEMO, f"rollouts={chained_additions}", *words)
        config.actor_rollout_ref.model.path = str(base_model)
        steps = len(facts_of(config).dataset) // 4 * epochs
        assert disk.bytes_needed(facts_of(config)) == parameters * 12 * math.ceil(steps / 2)
        assert steps > 2
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(ConfigError, match=r"max_actor_ckpt_to_keep=1 \(it is null\)"):
        check(*words)


def test_snapshots_are_counted_by_the_epochs(base_model, chained_additions):
    words = ("data.train_batch_size=4", "trainer.total_training_steps=null", "trainer.total_epochs=2")

    def needed(*more):
        config = composed("fpa_offline", *DEMO, f"rollouts={chained_additions}", *words, *more)
        config.actor_rollout_ref.model.path = str(base_model)
        return disk.bytes_needed(facts_of(config)), facts_of(config)

    (without, facts), (with_some, _) = needed(), needed("snapshots.every=3")
    count = math.ceil(len(facts.dataset) // 4 * 2 / 3)
    assert with_some - without == count * 2 * disk.parameters_of(str(base_model))


@pytest.mark.parametrize(("source", "of_a_token"), [("chosen", 4), ("topk", 8 + 6 * (64 + 64)), ("hidden", 4 * 64)])
def test_a_disk_without_room_for_the_cache(check, monkeypatch, chained_additions, source, of_a_token):
    dataset = RolloutDataset(chained_additions)
    needed = of_a_token * sum(len(dataset.row(row)["response_ids"]) for item in dataset.items for row in item)
    words = (f"reference.source={source}", *(("reference.k=64", "reference.samples=64") if source == "topk" else ()))
    for free, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        with nullcontext() if fits else pytest.raises(ConfigError, match=rf"source={source}: the cache in .* takes"):
            check(*words, recipe="cache_reference")


def test_weights_of_other_kinds_count_as_well(base_model, tmp_path):
    (tmp_path / "config.json").write_text((base_model / "config.json").read_text())
    torch.save(load_file(base_model / "model.safetensors"), tmp_path / "pytorch_model.bin")
    assert disk.parameters_of(str(tmp_path)) == disk.parameters_of(str(base_model))


def test_the_same_weights_under_another_name_count_once(base_model, tmp_path):
    """As some makers publish them, beside the files that transformers loads."""
    parameters, weights = disk.parameters_of(str(base_model)), load_file(base_model / "model.safetensors")
    shutil.copytree(base_model, tmp_path / "whole")
    save_file(weights, tmp_path / "whole" / "consolidated.safetensors")
    assert disk.parameters_of(str(tmp_path / "whole")) == parameters
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    (tmp_path / "parts" / "model.safetensors").unlink()
    files = {name: f"model-{place % 2}.safetensors" for place, name in enumerate(weights)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in weights if files[name] == file}, tmp_path / "parts" / file)
    (tmp_path / "parts" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    assert disk.parameters_of(str(tmp_path / "parts")) == parameters


def test_a_dataset_of_another_model(check, tmp_path):
    torch.manual_seed(1)
    tokenizer = character_tokenizer()
    small_qwen3(tokenizer, hidden=64, layers=2).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(MismatchError, match="made with another model"):
        check(f"actor_rollout_ref.model.path={tmp_path}")


def test_a_dataset_of_another_tokenizer(check, tmp_path):
    tokenizer = character_tokenizer()
    tokenizer.add_tokens(["<new>"])
    small_qwen3(tokenizer, hidden=64, layers=2).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(MismatchError, match="made with another tokenizer"):
        check(f"actor_rollout_ref.model.path={tmp_path}")


def test_a_dataset_whose_problems_were_put_otherwise(check, chained_additions):
    """The name of the prompt, where it has one; and where a task file has the last word."""
    chat = f"{chained_additions} was made with prompt=chat, and this run has another .*: say prompt=chat. A task file"
    with pytest.raises(MismatchError, match=chat):
        check(f"{MODEL}.custom_chat_template='{{{{messages[0].content}}}}'", "prompt.name=plain")
    arguments = "+data.apply_chat_template_kwargs.enable_thinking=false"
    with pytest.raises(MismatchError, match=r"say prompt=chat, without data\.apply_chat_template_kwargs\. A task"):
        check(arguments)


def test_a_plugin_that_verl_was_told_not_to_load(check, monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    with pytest.raises(IntegrationError, match="unset it"):
        check()


@pytest.mark.parametrize("found", ["0.9.0", "0.10.0", "1.0"])
def test_a_verl_outside_the_supported_range(monkeypatch, found):
    monkeypatch.setattr(versions, "version", lambda _: found)
    with pytest.raises(IntegrationError, match=rf"verl {found} is not supported, .*and there, in a clone .* pip"):
        versions.check_verl()


@pytest.mark.patient
def test_the_command_prints_one_line_and_exits_1(launch, tmp_path):
    done = launch("recipe=fpa_offline", *DEMO, "rollouts=nowhere")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: no rollout dataset at {tmp_path}/nowhere")
    assert "Traceback" not in done.stderr
    assert "starting Ray" not in done.stdout
    assert not list(tmp_path.rglob("log.txt"))
    # Nothing of what verl says while it is imported.
    assert len(done.stderr.splitlines()) == 1
