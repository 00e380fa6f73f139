"""The real command with LoRA, Ray and vLLM: offline, validated, exported and resumed; and online."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fpa_verl.demo import task
from fpa_verl.runs.answers import AnswerStore
from fpa_verl.runs.names import BEST_MODEL, answers_of_step
from fpa_verl.runs.run import read_info
from tests.integration.running import WITHOUT_VALIDATION, metrics, offline, train

pytestmark = pytest.mark.slow

LORA = ("actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.model.lora_alpha=16")
# Odd and even lengths: what a random model gets right as often as wrong.
SCORER = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    right = len(solution_str) % 2 == 1
    return {"score": float(right), "acc": float(right), "status": "right" if right else "wrong", "extracted": ""}
"""


@pytest.fixture(autouse=True)
def as_a_user_types_it(monkeypatch):
    """The recipe alone names the platform."""
    monkeypatch.delenv("VERL_PLATFORM")


def greedy(model_path, answers) -> list[str]:
    """What transformers has the model answer to the problems of these answers."""
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
    problems = {f"t{i}": problem for i, problem in enumerate(task.distinct_problems(16, seed=9))}
    found = []
    for problem_id in answers["problem_id"]:
        chat = [{"role": "user", "content": problems[problem_id].text}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        out = model.generate(ids, max_new_tokens=64, do_sample=False)[0, ids.shape[1] :]
        found.append(tokenizer.decode(out, skip_special_tokens=True))
    return found


def test_offline_it_is_validated_exported_and_resumed_with_its_adapter(workspace, base_model):
    run_dir = workspace / "offline_lora"
    common = (
        *LORA,
        "actor_rollout_ref.actor.optim.lr=1e-2",
        "actor_rollout_ref.rollout.val_kwargs.temperature=0",
        "trainer.val_before_train=false",
        "trainer.save_freq=2",
        f"run_dir={run_dir}",
    )
    done = offline(workspace, base_model, *common, "trainer.total_training_steps=2", "trainer.test_freq=2")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    # The base model is loaded once a process: by the actor, and by vLLM.
    assert done.stdout.count("PeftModelForCausalLM contains") == 1
    assert done.stdout.count("Qwen3ForCausalLM contains") == 0
    assert metrics(run_dir)[1]["dynamics/wrong/log_prob_change"] == pytest.approx(0, abs=1e-4)
    moved = metrics(run_dir)[2]["dynamics/wrong/log_prob_change"]
    assert abs(moved) > 0.1

    answers = AnswerStore(run_dir, answers_of_step(1, 2)).read()
    answers = answers[answers["data_source"] == task.DATA_SOURCE]
    assert len(answers) == 16
    assert answers["response"].tolist() == greedy(run_dir / BEST_MODEL, answers)
    assert answers["response"].tolist() != greedy(base_model, answers)

    again = offline(workspace, base_model, *common, "trainer.total_training_steps=3", "trainer.test_freq=-1")
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert "goes on after step 2" in again.stdout
    resumed = metrics(run_dir, attempt=2)
    assert list(resumed) == [3]
    # A new adapter would begin at 0.
    assert abs(resumed[3]["dynamics/wrong/log_prob_change"]) > 0.1


def test_grpo_serves_the_adapter_that_it_trains_and_keeps_to_the_base_model(workspace, base_model):
    (workspace / "odd.py").write_text(SCORER)
    run_dir = workspace / "grpo_lora"
    done = train(
        "grpo_baseline",
        workspace,
        base_model,
        *LORA,
        "scale.online.prompts=14",
        "scale.online.mini_batch=14",
        "scale.rollouts_per_problem=4",
        "scale.online.lr=1e-2",
        "scale.online.use_kl_loss=true",
        "scale.online.kl_loss_coef=0.01",
        f"data.train_files=[{workspace}/problems.parquet]",
        f"reward.custom_reward_function.path={workspace}/odd.py",
        "trainer.total_training_steps=3",
        "trainer.save_freq=-1",
        f"run_dir={run_dir}",
        *WITHOUT_VALIDATION,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    steps = metrics(run_dir)
    for step in (1, 2, 3):
        assert steps[step]["actor/grad_norm"] > 0
        # The same problems in every step: nothing that vLLM kept of the adapter before is served.
        assert steps[step]["training/rollout_probs_diff_max"] < 1e-5, step
    assert steps[1]["actor/kl_loss"] == pytest.approx(0, abs=1e-6)
    assert steps[3]["actor/kl_loss"] > 1e-4
    assert read_info(run_dir / "run.json")["training"]["lora_rank"] == 8
