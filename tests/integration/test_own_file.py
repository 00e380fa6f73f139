"""docs/own_configuration.md, done as it says: a configuration file of one's own beside a recipe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fpa_verl.commands import MAIN, VERLS_MAIN, Command
from fpa_verl.errors import ConfigError
from fpa_verl.integration.command import compose as compose_module
from fpa_verl.integration.command import own_file, preflight
from fpa_verl.integration.command.checks.prompt import require_its_template
from fpa_verl.integration.command.compose import composed
from fpa_verl.integration.config.kinds import facts_of
from tests.integration.running import DEMO

MODEL = "actor_rollout_ref.model"
PAGE = (Path(__file__).parents[2] / "docs" / "own_configuration.md").read_text()
FILE = re.search(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)[1]
KEYS = re.findall(r"^\| (`.*?`) \|", PAGE, flags=re.MULTILINE)
# A file for GRPO, as verl's examples have it; train_batch_size is verl's own value, written out.
GRPO = """
defaults: [ppo_trainer, _self_]
data: {train_files: gsm8k/train.parquet, train_batch_size: 1024}
actor_rollout_ref:
  model: {path: my/model}
  actor: {optim: {lr: 2.0e-6}}
  rollout: {n: 5, name: vllm}
trainer: {n_gpus_per_node: 4, logger: [console]}
"""


@pytest.fixture
def compose(tmp_path):
    """The configuration of `--config-name mine` with what else is typed, by the entry that is named."""

    def run(text, *overrides, start=MAIN):
        (tmp_path / "mine.yaml").write_text(text)
        found = composed(Command.of(["--config-dir", str(tmp_path), "--config-name", "mine", *overrides], start))
        return found.config, found.overridden

    return run


@pytest.mark.parametrize("start", [MAIN, VERLS_MAIN], ids=["ours", "verls"])
def test_the_file_of_the_page_has_the_last_word(compose, start):
    config, lost = compose(FILE, start=start)
    assert config.recipe_name == "fpa_offline"
    assert config.run_dir == "runs/mine/fpa_offline"
    assert config.data.train_files == "runs/mine/rollouts"
    assert config.actor_rollout_ref.model.path == "MODEL"
    assert (config.actor_rollout_ref.actor.optim.lr, config.trainer.n_gpus_per_node) == (2e-6, 4)
    assert config.actor_rollout_ref.rollout.n == 1
    assert lost == []


def test_the_command_line_has_a_later_word_than_the_file(compose):
    config, _ = compose(FILE, "recipe=off_rl", "hardware=cpu", "trainer.n_gpus_per_node=1", start=VERLS_MAIN)
    assert (config.recipe_name, config.trainer.device, config.trainer.n_gpus_per_node) == ("off_rl", "cpu", 1)


@pytest.mark.patient
def test_what_an_appended_recipe_overrides_is_listed_by_key(compose):
    config, lost = compose(GRPO, "+recipe=fpa_offline", *DEMO, "trainer.n_gpus_per_node=2", start=VERLS_MAIN)
    found = {one.key: (one.said, one.now) for one in lost}
    assert found == {
        "actor_rollout_ref.actor.optim.lr": (2e-6, 3e-5),
        "actor_rollout_ref.model.path": ("my/model", "runs/demo/base_model"),
        "actor_rollout_ref.rollout.n": (5, 1),
        "data.train_batch_size": (1024, 64),
        "data.train_files": ("gsm8k/train.parquet", "runs/demo/rollouts"),
        "trainer.logger": (["console"], ["console", "file"]),
    }
    # Not the recipe's word, but that of who typed it.
    assert config.trainer.n_gpus_per_node == 2


@pytest.mark.patient
def test_without_a_file_of_ones_own_nothing_is_said(tmp_path):
    assert composed(Command.of(["+recipe=fpa_offline", *DEMO])).overridden == []
    # A folder with a task of one's own is no such file.
    (tmp_path / "task").mkdir()
    (tmp_path / "task/words.yaml").write_text("# @package _global_\nkeep_best: false\n")
    own = composed(Command.of(["--config-dir", str(tmp_path), "+recipe=collect", *DEMO[:2], "task=words"], VERLS_MAIN))
    assert (own.config.keep_best, own.overridden) == (False, [])


@pytest.mark.patient
def test_what_comes_behind_the_file_in_its_defaults_is_listed_by_key(compose):
    text = FILE.replace("  - _self_\n", "").replace("  - ppo_trainer\n", "  - ppo_trainer\n  - _self_\n")
    _, lost = compose(text, "trainer.n_gpus_per_node=1")
    found = {one.key: (one.said, one.now) for one in lost}
    assert found == {
        "actor_rollout_ref.model.path": ("MODEL", "Qwen/Qwen3-4B-Base"),
        "problems.test": ("TEST.parquet", "data/math12k/math500.parquet"),
        "problems.train": ("TRAIN.parquet", "data/math12k/train.parquet"),
        "rollouts": ("runs/mine/rollouts", "runs/math12k/rollouts"),
        "run_dir": ("runs/mine/${recipe_name}", "runs/math12k/fpa_offline"),
        "scale.offline.lr": (2e-6, 5e-6),
    }
    # Neither empty sections nor what comes out the same.
    _, lost = compose("defaults: [ppo_trainer, _self_, recipe: collect]\nreward: {}\nrun_dir: ${rollouts}\n")
    assert lost == []


def test_the_command_says_how_the_file_has_the_last_word(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("defaults: [ppo_trainer, _self_, recipe: collect]\nrollouts: mine\n")
    said = []
    monkeypatch.setattr(own_file, "say", said.append)
    monkeypatch.setattr(compose_module, "overridden", own_file.say_what_was_overridden)
    composed(Command.of(["--config-dir", str(tmp_path), "--config-name", "mine", *DEMO]))
    assert said == [
        "warning: what comes behind _self_ in the defaults of mine.yaml has the last word on 1 of its keys; to give it "
        "to the file, put _self_ last in its defaults (docs/own_configuration.md):",
        "  rollouts: runs/demo/rollouts, not mine",
    ]


def wins(text, key, value):
    """The page's file with one key more."""
    added = OmegaConf.create()
    OmegaConf.update(added, key, value)
    return OmegaConf.to_yaml(OmegaConf.merge(OmegaConf.create(text), added))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.train_files", "gsm8k/train.parquet", "reads the rollout dataset .* no problem files"),
        ("data.train_files", ["a", "b"], "reads the rollout dataset"),
        ("data.custom_cls.path", None, "custom_cls=null: an offline run takes its rollouts from .*StaticRollouts "),
        ("data.custom_cls.name", "validates", "custom_cls=pkg://.*:validates: an offline run"),
        ("actor_rollout_ref.rollout.n", 5, "n=5: an item .* set it to 1"),
        ("actor_rollout_ref.rollout.agent.agent_loop_manager_class", None, "_class=null: .*StaticRolloutManager "),
        ("actor_rollout_ref.rollout.agent.agent_loop_manager_class", "tests.integration.own_manager.Other",
         "manager_class=.*Other: an offline run"),
        ("actor_rollout_ref.actor.ppo_mini_batch_size", 256, "a batch is one update"),
        ("actor_rollout_ref.actor.ppo_epochs", 2, "set it to 1"),
        ("actor_rollout_ref.actor.shuffle", True, "shuffle=True"),
        ("actor_rollout_ref.actor.use_kl_loss", True, "forward_kl_coef"),
        ("actor_rollout_ref.actor.loss_agg_mode", "token-mean", "set it to seq-mean-token-mean"),
        ("actor_rollout_ref.actor.policy_loss.loss_mode", "vanilla", "the offline trainer has"),
        ("algorithm.adv_estimator", "grpo", "adv_estimator=grpo: an offline run has signed_reward"),
        ("algorithm.use_kl_in_reward", True, "use_kl_in_reward=True: an offline run has false"),
        ("trainer.v1.trainer_mode", "sync", "trainer_mode=sync: recipe=fpa_offline is trained by offline"),
        ("trainer.use_v1", False, "leave it true"),
    ],
)  # fmt: skip
def test_a_key_that_the_recipe_owns_is_refused_by_name(compose, chained_additions, base_model, key, value, message):
    config, _ = compose(
        wins(FILE, key, value),
        *DEMO,
        f"rollouts={chained_additions}",
        f"actor_rollout_ref.model.path={base_model}",
        f"data.val_files=[{chained_additions}/validation.parquet]",
        "trainer.n_gpus_per_node=1",
        "data.train_batch_size=16",
    )
    with pytest.raises(ConfigError, match=message) as caught:
        preflight.check(facts_of(config))
    assert key.removesuffix(".path").removesuffix(".name") in str(caught.value)
    # The page names it.
    assert any(f"`{key}`" in row for row in KEYS)


def test_a_file_for_grpo_is_told_of_all_that_an_offline_run_has_otherwise(compose, chained_additions, base_model):
    grpo = """
defaults: [ppo_trainer, recipe: fpa_offline, override /prompt: chat, _self_]
data: {train_files: gsm8k/train.parquet}
actor_rollout_ref:
  actor: {ppo_mini_batch_size: 8}
  rollout: {n: 8}
"""
    model = f"actor_rollout_ref.model.path={base_model}"
    config, _ = compose(grpo, *DEMO, f"rollouts={chained_additions}", model)
    with pytest.raises(ConfigError) as caught:
        preflight.check(facts_of(config))
    keys = ("data.train_files", "actor_rollout_ref.rollout.n=8", "actor_rollout_ref.actor.ppo_mini_batch_size=8")
    assert all(key in str(caught.value) for key in keys)


def test_a_manager_of_ones_own_that_derives_from_ours_will_do(compose, chained_additions, base_model):
    text = wins(
        FILE, "actor_rollout_ref.rollout.agent.agent_loop_manager_class", "tests.integration.own_manager.Derived"
    )
    config, _ = compose(
        text,
        *DEMO,
        f"rollouts={chained_additions}",
        f"actor_rollout_ref.model.path={base_model}",
        f"data.val_files=[{chained_additions}/validation.parquet]",
        "trainer.n_gpus_per_node=1",
        "data.train_batch_size=16",
    )
    preflight.check(facts_of(config))


@pytest.mark.parametrize(
    ("lines", "slips"),
    [
        ("data: {max_respons_length: 48}", ["data.max_respons_length: was data.max_response_length meant?"]),
        (
            "trainer: {tset_freq: 4}\nreward: {treshold: 1}",
            ["trainer.tset_freq: was trainer.test_freq meant?", "reward.treshold: was reward.threshold meant?"],
        ),
        ("scale: {offlin: {steps: 3}}", ["scale.offlin.steps: was scale.offline.steps meant?"]),
        (
            "scale: {offline: {learning_rate: 3.0e-5, batch_size: 32}}",
            [
                "scale.offline.learning_rate: scale.offline has batch, ",
                "scale.offline.batch_size: scale.offline has ba",
            ],
        ),
        ("scale: {mine: 3}", ["scale.mine: scale has "]),
        (
            "task: demo",
            ["task: a key chooses nothing; put `- override /task: demo` into the file's defaults, before _self_"],
        ),
        ("hardware: cpu\nmodel: tiny", ["`- override /hardware: cpu`", "`- override /model: tiny`"]),
        ("recipe: dpo", ["`- recipe: dpo`"]),
    ],
)
def test_a_slip_in_a_file_is_refused_and_what_is_meant_is_named(compose, lines, slips):
    with pytest.raises(ConfigError) as refused:
        compose(f"defaults: [ppo_trainer, recipe: off_rl, _self_]\n{lines}\n")
    assert all(slip in str(refused.value) for slip in slips)


@pytest.mark.patient
def test_a_number_of_scale_that_is_set_in_vain(tmp_path):
    text = "defaults: [ppo_trainer, recipe: fpa_offline, _self_]\nactor_rollout_ref: {actor: {optim: {lr: 2.0e-6}}}\n"
    (tmp_path / "mine.yaml").write_text(text)

    def said(*words):
        return composed(Command.of([*words, "scale.offline.lr=1e-5"], MAIN)).slips

    (slip,) = said("--config-dir", str(tmp_path), "--config-name", "mine")
    assert slip.startswith("scale.offline.lr= reaches nothing")
    for recipe in ("fpa_offline", "off_rl_low_lr"):
        assert said(f"recipe={recipe}", "scale.eval_samples=3", "scale.max_prompt_tokens=9") == []
    (slip,) = said("recipe=grpo_baseline", "scale.online.batch_counts=prompts")
    assert slip.startswith("scale.offline.lr=")


@pytest.mark.patient
@pytest.mark.parametrize(
    "lines",
    [
        "mine: {learning: 3}",
        "scale: {mine: {rate: 3}, other: 2}\ntrainer: {save_freq: '${scale.mine.rate}'}\nmine: '${scale.other}'",
        "actor_rollout_ref: {model: {lora_rank: 0, target_modules: [q_proj]}}",
        "actor_rollout_ref: {model: {lora_rank: 8, lora_alpha: 32}}",
        "reward: {custom_reward_function: {reward_kwargs: {weights: 2, threshold: 1}}}",
        "actor_rollout_ref: {model: {override_config: {attn_implementation: sdpa, hidden_activation: x}}}",
    ],
)
def test_keys_of_ones_own_are_nobodys_business(compose, lines):
    compose(f"defaults: [ppo_trainer, recipe: off_rl, _self_]\n{lines}\n")


@pytest.mark.patient
@pytest.mark.parametrize(
    ("lines", "words", "keys"),
    [
        ("{lora_alpha: 16}", [], f"{MODEL}.lora_alpha"),
        (
            "{}",
            [f"{MODEL}.target_modules=[q_proj]", f"{MODEL}.lora_alpha=16"],
            f"{MODEL}.lora_alpha, {MODEL}.target_modules",
        ),
        ("{exclude_modules: [k_proj]}", ["recipe=collect"], f"{MODEL}.exclude_modules"),
    ],
)
def test_an_adapters_keys_without_its_rank_are_refused(compose, lines, words, keys):
    text = f"defaults: [ppo_trainer, recipe: off_rl, _self_]\nactor_rollout_ref: {{model: {lines}}}\n"
    with pytest.raises(
        ConfigError, match=f"^{keys}: without {MODEL}.lora_rank all weights are trained, and no adapter"
    ):
        compose(text, *words)
    compose(text, *words, f"{MODEL}.lora_rank=0")
    compose(text, *words, f"{MODEL}.lora_rank=8")


@pytest.mark.patient
def test_a_prompt_that_is_named_and_not_taken_is_refused(compose):
    own = "prompt: {name: chat, text: null, stop: []}"
    config, _ = compose(f"defaults: [ppo_trainer, recipe: collect, _self_]\n{own}\n")
    with pytest.raises(ConfigError, match=r"prompt.name=chat, and .*_chat_template is that of prompt=paper: type"):
        require_its_template(facts_of(config))
    config, _ = compose("defaults: [ppo_trainer, recipe: collect, override /prompt: chat, _self_]\n")
    require_its_template(facts_of(config))
    assert config.actor_rollout_ref.model.custom_chat_template is None
