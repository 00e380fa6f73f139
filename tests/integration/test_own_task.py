"""A task file that `fpa-verl task new` wrote composes with every recipe and passes what is checked before a run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from transformers import Qwen2Config, Qwen2ForCausalLM
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.demo import task as sums
from fpa_verl.demo.model import character_tokenizer
from fpa_verl.integration.command import preflight
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.config.settings import scorer_of
from fpa_verl.paths import RECIPES
from fpa_verl.reward.function import RewardFunction
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.problems import Problem, write_problems
from fpa_verl.rollouts.prompts import BARE
from fpa_verl.rollouts.record_files import record_files

PAGE = (Path(__file__).parents[2] / "docs" / "own_task.md").read_text()
# Of every objective's kind one, and all that is no training.
RECIPES_AT_HAND = ("fpa_offline", "off_rl", "sft", "dpo", "cache_reference", "evaluate")


@pytest.fixture(scope="module")
def qwen2_5(tmp_path_factory) -> Path:
    """A small model of Qwen2.5's architecture, made on the spot."""
    folder = tmp_path_factory.mktemp("qwen2_5")
    tokenizer = character_tokenizer()
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen2Config(
        **size,
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def written_task(folder: Path, model: Path, problems: int, *options: str) -> list[str]:
    """A task of so many problems in `folder`, which is where commands are typed; the commands it says to type."""
    for name, count, seed in (("train", problems, 0), ("test", 120, 1)):
        posed = [
            sums_problem(f"{name}{i}", problem) for i, problem in enumerate(sums.distinct_problems(count, seed=seed))
        ]
        write_problems(folder / f"{name}.parquet", posed, "train")
    files = ["--problems", "train.parquet", "--test", "test.parquet", "--model", str(model), "--hardware", "cpu"]
    done = CliRunner().invoke(app, ["task", "new", "sums", *files, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return [line for line in done.output.splitlines() if line.startswith(("python", "fpa-verl"))]


def sums_problem(problem_id, problem):
    return Problem.from_text(problem_id, problem.text, problem.answer, "sums")


def composed_as_typed(command: str):
    """What `python -m verl.trainer.main --config-dir FOLDER ...` composes."""
    words = shlex.split(command)[3:]
    assert words[0] == "--config-dir"
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(RECIPES), version_base="1.3"):
        path = f"hydra.searchpath=[pkg://verl.trainer.config,file://{Path(words[1]).absolute()}]"
        return compose("main", overrides=[path, *words[2:]])


def imported(folder: Path, model: Path, problems: int) -> None:
    """Four rollouts to each problem, one of them right."""
    lines = [
        json.dumps(
            {
                "problem": p.text,
                "ground_truth": p.answer,
                "id": f"train{i}",
                "response": p.solution({} if slip is None else {slip: 1}),
            }
        )
        for i, p in enumerate(sums.distinct_problems(problems, seed=0))
        for slip in (None, 0, 1, 2)
    ]
    (folder / "text.jsonl").write_text("\n".join(lines))
    import_rollouts(
        record_files([folder / "text.jsonl"]),
        str(model),
        folder / "runs/sums/rollouts",
        prompt=BARE,
        validation_fraction=0.2,
        max_response_tokens=64,
    )


@pytest.mark.patient
def test_300_problems_pass_the_checks_of_every_recipe(tmp_path, monkeypatch, qwen2_5):
    monkeypatch.chdir(tmp_path)
    commands = written_task(tmp_path, qwen2_5, 300, "--response-tokens", "64")
    by_recipe = {
        word.removeprefix("recipe="): command
        for command in commands
        for word in shlex.split(command)
        if word.startswith("recipe=")
    }
    preflight.check(facts_of(composed_as_typed(by_recipe["collect"])))
    imported(tmp_path, qwen2_5, 300)
    for recipe in (*RECIPES_AT_HAND, "grpo_baseline"):
        # There is no trained model yet, and the cache and the base model's accuracy are made before they are read.
        command = re.sub(" (reference.source|evaluation.base)=[^ ]+", "", by_recipe[recipe])
        model = f" actor_rollout_ref.model.path={qwen2_5}" if recipe == "evaluate" else ""
        preflight.check(facts_of(composed_as_typed(command + model)))


@pytest.mark.patient
def test_12000_problems(tmp_path, monkeypatch, qwen2_5):
    monkeypatch.chdir(tmp_path)
    commands = written_task(tmp_path, qwen2_5, 12_000)
    collect = next(command for command in commands if "recipe=collect" in command)
    config = composed_as_typed(collect)
    preflight.check(facts_of(config))
    # 512 positions less the longest prompt, "99+99+99+99" and a line break: 12 tokens, 16 in sixteens.
    assert (config.data.max_prompt_length, config.data.max_response_length) == (16, 496)
    assert config.validation.fraction == 0.05
    assert config.scale.offline.epochs == 3
    for recipe in ("fpa_offline", "dpo", "grpo_baseline", "evaluate"):
        OmegaConf.to_container(composed_as_typed(collect.replace("recipe=collect", f"recipe={recipe}")), resolve=True)


def test_rollouts_at_hand_are_measured_and_not_collected_again(tmp_path, monkeypatch, qwen2_5):
    monkeypatch.chdir(tmp_path)
    imported(tmp_path, qwen2_5, 40)
    commands = written_task(tmp_path, qwen2_5, 40, "--rollouts", "runs/sums/rollouts")
    assert not any("recipe=collect" in command for command in commands)
    config = composed_as_typed(next(command for command in commands if "recipe=fpa_offline" in command))
    # "16+44=60;60+21=81;81+62=143;\boxed{143}" and the end of it; 32 problems x 4 are 128, in batches of 16.
    assert config.data.max_response_length == 48
    assert config.data.train_batch_size == 16


@pytest.mark.patient
def test_the_command_composes_it_as_typed(tmp_path, monkeypatch, qwen2_5, launch):
    monkeypatch.chdir(tmp_path)
    commands = written_task(tmp_path, qwen2_5, 60, "--response-tokens", "64")
    collect = next(command for command in commands if "recipe=collect" in command)
    done = launch(*shlex.split(collect)[3:], "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "rollouts: runs/sums/rollouts" in done.stdout


@pytest.mark.parametrize("recipe", ["collect", "off_rl", "sft", "grpo_baseline", "evaluate"])
def test_what_a_file_of_ones_own_says_comes_to_pass(tmp_path, monkeypatch, qwen2_5, recipe):
    """Of the task, of the hardware and of the model, also where all recipes have a value of their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def grade(**_):\n    return 0.7\n")
    reward = ("--reward", "mine.py:grade", "--reward-args", '{"weight": 2}', "--threshold", "1")
    commands = written_task(tmp_path, qwen2_5, 60, "--response-tokens", "64", *reward)
    with (tmp_path / "my_recipes/task/sums.yaml").open("a") as file:
        file.write("data: {seed: 7}\nevaluation: {samples: 3}\nearly_stopping: {patience: 2}\nkeep_best: false\n")
    for group, text in (("hardware", "rollout: {tensor_model_parallel_size: 4}"), ("model", "rollout: {top_k: 20}")):
        (tmp_path / "my_recipes" / group).mkdir()
        mine = tmp_path / "my_recipes" / group / "mine.yaml"
        mine.write_text(f"# @package _global_\nactor_rollout_ref: {{{text}}}\n")
    collect = next(command for command in commands if "recipe=collect" in command)
    config = composed_as_typed(collect.replace("collect", recipe).replace("hardware=cpu", "hardware=mine model=mine"))
    assert scorer_of(config) == RewardFunction(f"{tmp_path}/mine.py", "grade", 1.0, {"weight": 2})
    assert (config.data.seed, config.evaluation.samples, config.keep_best) == (7, 3, False)
    assert config.early_stopping.patience == 2
    rollout = config.actor_rollout_ref.rollout
    assert (rollout.tensor_model_parallel_size, rollout.top_k, rollout.seed) == (4, 20, 7)


def page_commands() -> list[str]:
    """What docs/own_task.md says to type before it comes to rollouts and scorers of other makers."""
    steps = PAGE[: PAGE.index("## Rollouts you already have")]
    return [line for block in re.findall(r"```bash\n(.*?)```", steps, flags=re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def as_on_the_page(tmp_path, monkeypatch, qwen2_5) -> Path:
    """A user's folder before the first command of the page."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(qwen2_5, tmp_path / "models/base")
    for name, count, seed in (("train", 300, 0), ("test", 120, 1)):
        lines = [
            json.dumps({"id": f"{name}{i}", "problem": problem.text, "answer": problem.answer, "source": "words"})
            for i, problem in enumerate(sums.distinct_problems(count, seed=seed))
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.patient
def test_the_pages_commands_as_typed(as_on_the_page):
    """Those that make files are run; those that train compose, and what can be checked of them is."""
    commands = page_commands()
    typed = [shlex.split(command) for command in commands]
    for words in typed:
        if words[:2] in (["fpa-verl", "task"], ["fpa-verl", "data"]) and "runs/words/rollouts" not in words:
            done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
            assert done.exit_code == 0, (words, done.output)
    recipes = {}
    for command in commands:
        if command.startswith("python"):
            config = composed_as_typed(command)
            OmegaConf.resolve(config)
            assert config.problems.train == "data/words/train.parquet"
            recipes[config.recipe_name] = config
            if config.trainer.v1.trainer_mode in ("offline", "metered_sync"):
                # What a run starts from is measured once for all of them, on the same problems.
                assert config.evaluation.base == recipes["evaluate"].run_dir == "runs/words/base"
                assert config.data.val_files == recipes["evaluate"].data.val_files
                assert not config.trainer.val_before_train
    assert [*recipes] == [
        *("collect", "cache_reference", "evaluate", "fpa_offline", "off_rl", "sft", "dpo", "grpo_baseline")
    ]
    preflight.check(facts_of(recipes["collect"]))


def test_the_page_and_the_command_say_to_type_the_same(as_on_the_page):
    """In the same order, but for problems that are checked before there is a task."""
    commands = page_commands()
    new = next(command for command in commands if command.startswith("fpa-verl task new"))
    for command in commands[: commands.index(new)]:
        CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False)
    done = CliRunner().invoke(app, [*shlex.split(new)[1:], "--hardware", "cpu"], catch_exceptions=False)
    printed = [line for line in done.output.splitlines() if line.startswith(("python", "fpa-verl"))]
    assert [command for command in commands[2:] if command != new] == printed


def test_settings_that_the_page_names_are_there(as_on_the_page):
    written_task(as_on_the_page, as_on_the_page / "models/base", 60, "--response-tokens", "64")
    for recipe, named in (("fpa_offline", "scale.offline"), ("grpo_baseline", "scale.online")):
        overrides = re.findall(rf"({re.escape(named)}\.\w+)=(\d+)", PAGE)
        assert overrides
        command = f"python -m verl.trainer.main --config-dir my_recipes recipe={recipe} task=sums hardware=cpu"
        config = composed_as_typed(" ".join([command, *(f"{key}={value}" for key, value in overrides)]))
        assert [str(OmegaConf.select(config, key)) for key, _ in overrides] == [value for _, value in overrides]


def test_the_pages_template_for_base_models_is_the_one_that_is_written():
    from fpa_verl.tasks.measure import PLAIN

    shown = OmegaConf.create(re.search(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)[1])
    assert shown.actor_rollout_ref.model.custom_chat_template == PLAIN.template
    assert tuple(shown.prompt.stop) == PLAIN.stop
