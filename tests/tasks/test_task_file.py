"""`fpa-verl task new`: the file that it writes, and the commands that it prints."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import ConfigError, DatasetError, MismatchError
from fpa_verl.rollouts.problems import Problem, write_problems
from fpa_verl.tasks.measure import measure, parameters_of


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's folder with problem files in it."""
    monkeypatch.chdir(tmp_path)
    for name, count in (("train", 50), ("test", 10)):
        problems = [Problem.from_text(f"{name}{i}", f"{i}+{10**i % 97}", str(i), "sums") for i in range(count)]
        write_problems(tmp_path / f"{name}.parquet", problems, "train")
    return tmp_path


def new(*arguments):
    return CliRunner().invoke(app, ["task", "new", *map(str, arguments)], catch_exceptions=False)


def options(model, **changes):
    given = {"problems": "train.parquet", "test": "test.parquet", "model": model, "response-tokens": 64, **changes}
    return [part for name, value in given.items() for part in (f"--{name}", value)]


def test_it_says_what_to_type_in_order(own, base_model):
    done = new("sums", *options(base_model, hardware="cpu"))
    assert done.exit_code == 0
    lines = [line for line in done.output.splitlines() if line.startswith(("python", "fpa-verl"))]
    recipes = [part for line in lines for part in line.split() if part.startswith("recipe=")]
    assert recipes == [
        f"recipe={name}"
        for name in (
            *("collect", "cache_reference", "evaluate"),
            *("fpa_offline", "off_rl", "sft", "dpo", "grpo_baseline", "evaluate"),
        )
    ]
    for line in lines:
        if line.startswith("python"):
            assert "--config-dir my_recipes" in line
            assert "task=sums hardware=cpu" in line
    # The base model is measured once, on what the runs are measured on, and stands at step 0 of all.
    held_out = "'data.val_files=[runs/sums/rollouts/validation.parquet,test.parquet]'"
    assert f"{held_out} run_dir=runs/sums/base" in next(line for line in lines if "recipe=evaluate" in line)
    by_base = [line.split("recipe=")[1].split()[0] for line in lines if "evaluation.base=runs/sums/base" in line]
    assert by_base == ["fpa_offline", "off_rl", "sft", "dpo", "grpo_baseline"]
    on_gpus = new("others", *options(base_model, hardware="h200x2")).output
    assert "hardware=" not in on_gpus


def test_a_file_that_is_there_stays(own, base_model):
    new("sums", *options(base_model))
    written = own / "my_recipes/task/sums.yaml"
    written.write_text("mine")
    with pytest.raises(ConfigError, match="is there already: delete it, or choose another name"):
        new("sums", *options(base_model))
    assert written.read_text() == "mine"
    with pytest.raises(ConfigError, match="is no name for a task"):
        new("my/task", *options(base_model))
    with pytest.raises(
        ConfigError, match=r"task=demo is one of the recipes' own, which hydra finds before my_recipes/"
    ):
        new("demo", *options(base_model))


def test_a_model_that_is_not_there_is_said_in_one_line(own, monkeypatch):
    def refuse(_):
        raise OSError("401 Client Error.\n\nRepository Not Found for url: https://hub/x.\nPlease make sure")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ConfigError, match=r"to be had from the hub \(401 Client Error. Repository Not") as caught:
        new("sums", *options("some/model"))
    assert "\n" not in str(caught.value)


def test_json_lines_are_made_into_a_problem_file_first(own, base_model):
    (own / "train.jsonl").write_text("{}")
    with pytest.raises(DatasetError, match=r"`fpa-verl data problems train.jsonl --out train.parquet` makes one"):
        new("sums", *options(base_model, problems="train.jsonl"))


def test_prompts_are_measured_as_the_model_sees_them(own, base_model):
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    # A token a character, and the template's line break: "49+96" or as long.
    assert measure(own / "train.parquet", own / "test.parquet", str(base_model)).prompt_tokens == 6
    bare = own / "bare"
    tokenizer.chat_template = None
    tokenizer.save_pretrained(bare)
    AutoModelForCausalLM.from_pretrained(base_model).save_pretrained(bare)
    found = measure(own / "train.parquet", own / "test.parquet", str(bare))
    # <|im_start|> is one token, "Question: " and "\nAnswer:" are 10 and 8.
    assert (found.prompt_name, found.prompt_tokens) == ("plain", 5 + 1 + 10 + 8)
    assert new("sums", *options(bare)).exit_code == 0
    task = OmegaConf.load(own / "my_recipes/task/sums.yaml")
    assert list(task.prompt.stop) == ["\nQuestion:"]
    chat = [{"role": "user", "content": "1+2"}]
    template = task.actor_rollout_ref.model.custom_chat_template
    rendered = tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|im_start|>Question: 1+2\nAnswer:"


def test_files_that_put_their_problems_as_the_paper_does_keep_its_prompt(own, base_model):
    from fpa_verl.rollouts.prompts import read_prompt

    paper = read_prompt("paper")
    for name in ("train", "test"):
        problems = [Problem.from_text(f"{name}{i}", paper.of(f"{i}+1"), str(i + 1), "sums") for i in range(50)]
        write_problems(own / f"{name}.parquet", problems, "train")
    assert new("sums", *options(base_model, **{"response-tokens": 128})).exit_code == 0
    task = OmegaConf.load(own / "my_recipes/task/sums.yaml")
    assert (task.prompt.name, task.prompt.text, list(task.prompt.stop)) == ("paper", paper.text, ["Q:"])


def test_parameters_are_counted_from_the_configuration(base_model):
    model = AutoModelForCausalLM.from_pretrained(base_model)
    counted = sum(parameter.numel() for parameter in model.parameters())
    # Norms and biases are left out.
    assert parameters_of(AutoConfig.from_pretrained(base_model)) == pytest.approx(counted, rel=0.01)


SCORER = """
def grade(data_source, solution_str, ground_truth, extra_info=None):
    return 0.7 * float(f"{{{ground_truth}}}" in solution_str)
"""


def import_sums(own, model, *options, slips=(0, 100, 0, 100)):
    """Rollouts of fifty sums; a slip of 0 makes a right one."""
    records = [
        {"problem": f"{i}+1", "id": f"p{i}", "ground_truth": str(i + 1), "response": f"\\boxed{{{i + 1 + slip}}}"}
        for i in range(50)
        for slip in slips
    ]
    (own / "text.jsonl").write_text("\n".join(map(json.dumps, records)))
    prompt = () if "--prompt" in options else ("--prompt", "{problem}")
    words = ["data", "import", "text.jsonl", "--model", str(model), "--out", "rollouts", *prompt, *options]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_rollouts_must_be_put_as_the_problem_files_are(own, base_model):
    import_sums(own, base_model, "--prompt", "paper")
    with pytest.raises(
        MismatchError,
        match=r"^rollouts was made with prompt=paper, and with these problem files the task has prompt=chat: give .* "
        "the same --prompt",
    ):
        new("sums", *options(base_model, rollouts="rollouts"))
    assert not (own / "my_recipes").exists()


def test_arguments_of_the_template_are_those_of_the_rollouts(own, base_model):
    arguments = ("--template-args", '{"enable_thinking": false}')
    import_sums(own, base_model, *arguments)
    with pytest.raises(MismatchError, match=r"made with another template, or .*, and --template-args here as there"):
        new("sums", *options(base_model, rollouts="rollouts"))
    assert new("sums", *options(base_model, rollouts="rollouts"), *arguments).exit_code == 0
    task = OmegaConf.load(own / "my_recipes/task/sums.yaml")
    assert task.data.apply_chat_template_kwargs == {"enable_thinking": False}


def test_rollouts_of_another_tokenizer_or_model_are_refused(own, base_model):
    import_sums(own, base_model)
    other = own / "other"
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base_model)).save_pretrained(other)
    tokenizer.save_pretrained(other)
    with pytest.raises(MismatchError, match=r"another model \(.*\) than other \(.*\): give the --model that made it"):
        new("sums", *options("other", rollouts="rollouts"))
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(other)
    with pytest.raises(MismatchError, match="another tokenizer"):
        new("sums", *options("other", rollouts="rollouts"))


def test_rollouts_that_hold_out_few_problems_are_noted(own, base_model):
    import_sums(own, base_model, "--validation-fraction", "0.04")
    said = " ".join(new("sums", *options(base_model, rollouts="rollouts")).output.split())
    # 0.5 / sqrt(2) is 0.354; a fifth of fifty are ten.
    assert "note: the rollouts hold out 2 of 50 problems, by which an accuracy is known to ± 35.4 points" in said
    assert "10 would be better: make them again, with --validation-fraction 0.2 of `fpa-verl data import`" in said


def test_rollouts_that_hold_out_enough_are_not(own, base_model):
    import_sums(own, base_model, "--validation-fraction", "0.2")
    assert "note:" not in new("sums", *options(base_model, rollouts="rollouts")).output


def test_rollouts_of_which_none_trains_are_refused(own, base_model):
    import_sums(own, base_model, slips=(0, 0))
    with pytest.raises(DatasetError, match=r"nothing to train on in rollouts: .* 0 mixed, 48 all right"):
        new("sums", *options(base_model, rollouts="rollouts"))


def test_a_reward_function_is_called_once(own, base_model):
    (own / "mine.py").write_text(SCORER)
    with pytest.raises(
        ConfigError,
        match=r"a score of 0\.7, and .* --threshold NUMBER.*; it was tried with the answer on problem",
    ):
        new("sums", *options(base_model, reward="mine.py:grade"))
    assert not (own / "my_recipes").exists()
    (own / "mine.py").write_text("def grade(**_):\n    return 1 / 0\n")
    done = new("sums", *options(base_model, reward="mine.py:grade"))
    said = " ".join(done.output.split())
    assert "note: the scorer grade in" in said
    assert "raised ZeroDivisionError" in said
    assert "unless it asks a reward model (reward.reward_model.enable)" in said


def test_what_rollouts_have_decided_is_taken_from_them(own, base_model):
    """Who is held out, answers a problem, and who scored them."""
    (own / "mine.py").write_text(SCORER)
    import_sums(own, base_model, "--validation-fraction", "0.2", "--reward", "mine.py:grade", "--threshold", "0.5")
    done = new("sums", *options(base_model, rollouts="rollouts"))
    assert done.exit_code == 0, done.output
    text = (own / "my_recipes/task/sums.yaml").read_text()
    assert "# 10 problems never train" in text
    assert "40 problems x 4, trajectories that train" in text
    task = OmegaConf.create(text)
    assert (task["validation"], task["scale"]["rollouts_per_problem"]) == ({"fraction": 0.2, "seed": 0}, 4)
    assert task["reward"] == {
        "threshold": 0.5,
        "custom_reward_function": {"path": f"{own}/mine.py", "name": "grade"},
    }


def test_a_reward_function_of_ones_own_is_in_the_file(own, base_model):
    (own / "mine.py").write_text(SCORER)
    new("sums", *options(base_model, reward="mine.py:grade", threshold=0.5))
    task = OmegaConf.load(own / "my_recipes/task/sums.yaml")
    assert task["reward"]["custom_reward_function"]["name"] == "grade"
    done = new("verls", *options(base_model, **{"reward": "verl", "reward-args": '{"a": 1}'}))
    # verl's own goes by the name of the set.
    assert "raised NotImplementedError" in done.output
    task = OmegaConf.load(own / "my_recipes/task/verls.yaml")
    assert task["reward"]["custom_reward_function"] == {
        "path": None,
        "name": "default_compute_score",
        "reward_kwargs": {"a": 1},
    }
    new("ours", *options(base_model))
    assert "reward" not in OmegaConf.load(own / "my_recipes/task/ours.yaml")


def test_a_function_whose_scores_say_nothing_is_refused(own, base_model):
    (own / "mine.py").write_text(
        "def grade(data_source, solution_str, ground_truth, extra_info=None):\n    return 0.3\n"
    )
    with pytest.raises(ConfigError, match=r"a score of 0\.3, .*set reward\.threshold"):
        new("sums", *options(base_model, reward="mine.py:grade"))
    assert not (own / "my_recipes").exists()
    new("sums", *options(base_model, reward="mine.py:grade", threshold=0.5))


def test_problems_that_are_put_in_two_ways_are_refused(own, base_model):
    from fpa_verl.rollouts.prompts import read_prompt

    paper = read_prompt("paper")
    problems = [Problem.from_text(f"test{i}", paper.of(f"{i}+1"), str(i + 1), "sums") for i in range(10)]
    write_problems(own / "test.parquet", problems, "train")
    with pytest.raises(
        DatasetError, match=r"^test.parquet puts its .* prompt=paper has it, and train.parquet does not"
    ):
        new("sums", *options(base_model))
    assert not (own / "my_recipes").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hardware": "cpux"}, "--hardware cpux: choose from cpu, h200x2"),
        ({"threshold": 0.5}, "--threshold belongs to a function: give --reward FILE.py:FUNCTION too"),
        ({"test": "train.parquet"}, "--problems and --test are both train.parquet"),
    ],
)
def test_what_would_fail_later_is_refused(own, base_model, changes, message):
    with pytest.raises(ConfigError, match=message):
        new("sums", *options(base_model, **changes))
