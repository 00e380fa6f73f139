"""What `fpa-verl demo` writes: problems, and a base model that is the same everywhere."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.demo import make
from fpa_verl.demo.regimes import REGIMES
from fpa_verl.errors import ConfigError
from fpa_verl.rollouts.problems import read_problems


def greedy(model, tokenizer, problems, **arguments):
    """What the model writes for problems whose prompts are equally long."""
    chats = [problem.chat for problem in problems]
    prompts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True, **arguments)
    given = tokenizer(prompts, return_tensors="pt")
    written = model.generate(**given, max_new_tokens=64, do_sample=False)[:, given.input_ids.shape[1] :]
    return tokenizer.batch_decode(written, skip_special_tokens=True)


@pytest.mark.parametrize("regime", REGIMES)
def test_problems_and_the_packaged_base_model(tmp_path, regime):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path), "--regime", regime])
    assert done.exit_code == 0, done.output
    train, test = (read_problems([tmp_path / "problems" / f"{split}.parquet"]) for split in ("train", "test"))
    assert (len(train), len(test)) == (make.TRAIN_PROBLEMS, make.TEST_PROBLEMS)
    assert not {p.messages for p in train} & {p.messages for p in test}
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base_model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base_model")
    assert 0.7e6 < model.num_parameters() < 0.9e6
    # It writes solutions: the first step of one, likely right.
    assert "\\boxed{" in greedy(model, tokenizer, [test[0]])[0]


def test_the_packaged_model_with_traces_thinks_where_it_may_and_is_right_more_often_then(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make.make_problems(tmp_path, "traces", 64)
    problems = read_problems([tmp_path / "problems" / "test.parquet"])
    folder = make.BASE_MODELS / "traces"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    right = []
    for thinking, shape in [(True, r"<think>[^<>]+</think>\\boxed\{\d+\}"), (False, r"\\boxed\{\d+\}")]:
        responses = greedy(model, tokenizer, problems, enable_thinking=thinking)
        assert all(re.fullmatch(shape, response) for response in responses)
        right.append(sum(r.endswith(f"{{{p.ground_truth}}}") for r, p in zip(responses, problems, strict=True)))
    # Without chance there are few slips: more than at temperature 1, which docs/demo.md has.
    assert right[0] > 40 > right[1] > 8


def test_fewer_test_problems_are_the_first_of_more(tmp_path):
    done = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path), "--test-problems", "3"])
    assert done.exit_code == 0, done.output
    found = [p.chat[-1]["content"] for p in read_problems([tmp_path / "problems" / "test.parquet"])]
    assert found == [p.text for p in make.problems("habit")[1][:3]]


@pytest.mark.parametrize("regime", REGIMES)
def test_the_package_says_how_its_model_was_made(regime):
    folder = make.BASE_MODELS / regime
    about = json.loads((folder / make.ABOUT).read_text())
    assert about["command"] == f"fpa-verl demo --regime {regime} --train-base"
    assert about["license"] == "Apache-2.0"
    assert about["regime"] == vars(REGIMES[regime])
    assert (about["steps"], about["seed"]) == (REGIMES[regime].steps, make.CORPUS_SEED)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 5e6


def test_a_damaged_model_is_refused_with_what_to_type(tmp_path, monkeypatch):
    shutil.copytree(make.BASE_MODELS, tmp_path / "models")
    monkeypatch.setattr(make, "BASE_MODELS", tmp_path / "models")
    weights = tmp_path / "models" / "habit" / make.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match=r"damaged.*--train-base"):
        make.place_base_model(tmp_path / "demo", "habit")


def test_a_base_model_can_be_trained_anew(tmp_path):
    done = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path), "--train-base", "--steps", "2"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "base_model" / "config.json").exists()


@pytest.mark.parametrize(
    ("options", "message"), [(["--regime", "x"], "choose from"), (["--steps", "2"], "--train-base")]
)
def test_what_makes_no_sense_is_refused(tmp_path, options, message):
    done = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path), *options])
    assert message in str(done.exception)
