"""arXiv 2509.19893, Tables 3 and 4 and sections 2 to 9: the composed recipes hold what is printed there."""

from __future__ import annotations

from functools import cache

import pytest
from omegaconf import OmegaConf

from fpa_verl.evaluation.benchmarks import BENCHMARKS
from fpa_verl.integration.config.settings import compute_dtype
from tests.integration.running import composed

ACTOR = "actor_rollout_ref.actor"
# Model of `model/`, as the paper names it: lambda and learning rate.
MODELS = {
    "qwen3_4b_base": ("Qwen/Qwen3-4B-Base", 2.0, 5e-6),
    "qwen2_5_math_7b": ("Qwen/Qwen2.5-Math-7B", 1.0, 5e-6),
    "llama3_2_3b_instruct": ("meta-llama/Llama-3.2-3B-Instruct", 1.0, 3e-6),
}
OFFLINE = (
    *("fpa_offline", "off_rl", "sft", "dpo", "rpo", "kto", "a_star_po"),
    *("off_rl_low_lr", "off_rl_kl", "fpa_correct_only", "fpa_incorrect_only"),
)

# Row of Table 3, key, value; of every offline recipe and model.
TABLE_3 = [
    ("seed", "data.seed", 42),
    ("optimizer", f"{ACTOR}.optim.optimizer", "AdamW"),
    ("beta1, beta2", f"{ACTOR}.optim.betas", [0.9, 0.999]),
    ("warm-up steps", f"{ACTOR}.optim.lr_warmup_steps", 150),
    ("max gradient norm", f"{ACTOR}.grad_clip", 10.0),
    ("early stopping: none but the best model kept", "early_stopping.patience", None),
    ("best model on validation", "keep_best", True),
    ("validation share", "validation.fraction", 0.05),
    ("max epochs", "trainer.total_epochs", 3),
    ("max generation length", "data.max_response_length", 2048),
    ("GPUs", "trainer.n_gpus_per_node", 2),
    ("nodes", "trainer.nnodes", 1),
]
# Row of Table 4, key, value.
TABLE_4 = [
    ("seed", "data.seed", 42),
    ("training steps", "trainer.total_training_steps", 1500),
    ("learning rate", f"{ACTOR}.optim.lr", 1e-6),
    ("global batch size", "data.train_batch_size", 128),
    ("mini-batch size", f"{ACTOR}.ppo_mini_batch_size", 64),
    ("micro-batch per GPU, 8 responses without their prompts", f"{ACTOR}.ppo_max_token_len_per_gpu", 8 * 2048),
    ("group size", "actor_rollout_ref.rollout.n", 8),
    ("temperature", "actor_rollout_ref.rollout.temperature", 0.7),
    ("max generation length", "data.max_response_length", 2048),
    ("clip", f"{ACTOR}.clip_ratio", 0.2),
    ("no KL", f"{ACTOR}.use_kl_loss", False),
]
# Hyper-parameters of B.2, 3.3 and B.6.
OBJECTIVES = {
    "dpo": {"beta": 0.1},
    "rpo": {"beta": 0.1, "alpha": 1.0},
    "kto": {"beta": 0.1, "lambda_w": 1.0, "lambda_l": 1.0, "z0": "mean"},
    "a_star_po": {"beta1": 0.5, "beta2": 1e-3, "reward": "signed"},
    "sft": {"mean_over": "tokens"},
    "off_rl_kl": {"forward_kl_coef": 0.04, "loss_mode": "off_rl"},
    "fpa_correct_only": {"future_weight_on": "right", "loss_mode": "fpa_one_sided"},
    "fpa_incorrect_only": {"future_weight_on": "wrong", "loss_mode": "fpa_one_sided"},
}

recipe = cache(composed)


def value(config, key):
    found = OmegaConf.select(config, key)
    return list(found) if OmegaConf.is_list(found) else found


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", OFFLINE)
def test_table_3(name, model):
    config = recipe(name, f"model={model}")
    assert {row: value(config, key) for row, key, _ in TABLE_3} == {row: wanted for row, _, wanted in TABLE_3}
    rows = config.actor_rollout_ref.rollout.n
    assert config.data.train_batch_size * rows == config.actor_rollout_ref.actor.ppo_mini_batch_size * rows == 64
    assert config.trainer.total_training_steps is None, "all of the epochs"


def test_precision_is_bfloat16(base_model):
    config = composed("fpa_offline", f"actor_rollout_ref.model.path={base_model}")
    assert compute_dtype(config.actor_rollout_ref.actor) == "bf16"


def test_what_is_prolonged_differs_in_its_length_alone():
    for name in ("off_rl", "fpa_offline"):
        usual, long = (OmegaConf.to_container(recipe(one), resolve=True) for one in (name, f"{name}_prolonged"))
        assert long["trainer"].pop("total_epochs") >= 10
        assert usual["trainer"].pop("total_epochs") == 3
        long["actor_rollout_ref"]["actor"]["policy_loss"]["track_reference"] = False
        for one in (usual, long):
            for key in ("recipe_name", "run_dir", "scale"):
                del one[key]
            for key in ("experiment_name", "default_local_dir"):
                del one["trainer"][key]
            del one["actor_rollout_ref"]["rollout"]["trace"]["experiment_name"]
        assert long == usual


def test_models_keep_their_data_and_runs_apart():
    folders = {model: recipe("off_rl", f"model={model}").run_dir for model in MODELS}
    assert folders == {
        "qwen3_4b_base": "runs/math12k/off_rl",
        "qwen2_5_math_7b": "runs/math12k/qwen2_5_math_7b/off_rl",
        "llama3_2_3b_instruct": "runs/math12k/llama3_2_3b_instruct/off_rl",
    }
    for model, folder in folders.items():
        assert recipe("collect", f"model={model}").rollouts == folder.replace("off_rl", "rollouts")


@pytest.mark.parametrize(("model", "path", "lam", "rate"), [(name, *row) for name, row in MODELS.items()])
def test_lambda_and_learning_rates_are_the_models(model, path, lam, rate):
    for name in ("fpa_offline", "fpa_correct_only", "fpa_incorrect_only"):
        assert recipe(name, f"model={model}").actor_rollout_ref.actor.policy_loss.lam == lam
    for name in OFFLINE:
        config = recipe(name, f"model={model}").actor_rollout_ref
        assert config.model.path == path
        share = {"sft": 2e-5, "off_rl_low_lr": 0.8 * rate}.get(name, rate)
        assert config.actor.optim.lr == pytest.approx(share, rel=1e-12)
    changed = recipe("off_rl_low_lr", f"model={model}", "scale.offline.lr=1e-5")
    assert changed.actor_rollout_ref.actor.optim.lr == pytest.approx(8e-6)


def test_table_4():
    config = recipe("grpo_baseline")
    assert {row: value(config, key) for row, key, _ in TABLE_4} == {row: wanted for row, _, wanted in TABLE_4}
    assert config.algorithm.norm_adv_by_std_in_grpo


def test_the_other_reading_of_table_4_counts_trajectories():
    config = recipe("grpo_baseline", "scale.online.batch_counts=trajectories")
    assert config.data.train_batch_size * config.actor_rollout_ref.rollout.n == 128
    assert config.actor_rollout_ref.actor.ppo_mini_batch_size * config.actor_rollout_ref.rollout.n == 64


@pytest.mark.parametrize(("name", "wanted"), OBJECTIVES.items())
def test_hyper_parameters_of_the_appendix(name, wanted):
    policy_loss = recipe(name).actor_rollout_ref.actor.policy_loss
    assert {key: policy_loss[key] for key in wanted} == wanted


@pytest.mark.parametrize("name", ["fpa_correct_only", "fpa_incorrect_only"])
def test_one_sided_ablations_train_on_both_sides(name):
    assert recipe(name).data.selection.outcomes == "both"


def test_collection():
    config = recipe("collect")
    sampling = config.actor_rollout_ref.rollout
    assert (sampling.n, sampling.temperature, sampling.seed) == (8, 0.7, 42)
    assert (config.data.max_response_length, config.validation.fraction) == (2048, 0.05)


def test_evaluation_of_the_appendix():
    sampling = recipe("evaluate").actor_rollout_ref.rollout.val_kwargs
    assert (sampling.n, sampling.temperature) == (8, 0.7)
    assert {name: one.samples for name, one in BENCHMARKS.items() if one.samples != 8}.keys() == {
        name for name in BENCHMARKS if name.startswith(("amc", "aime"))
    }
    assert {one.samples for one in BENCHMARKS.values()} == {8, 32}


def test_the_pilots_model_composes_with_the_rule_of_thumb():
    config = recipe("off_rl", "model=qwen3_1_7b_base")
    assert config.actor_rollout_ref.model.path == "Qwen/Qwen3-1.7B-Base"
    assert recipe("fpa_offline", "model=qwen3_1_7b_base").actor_rollout_ref.actor.policy_loss.lam == 1.0
