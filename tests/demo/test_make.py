"""What `fpa-verl demo` writes: problems, and a base model that is the same everywhere."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.demo import make, task
from fpa_verl.errors import ConfigError
from fpa_verl.rollouts.problems import read_problems


@pytest.mark.parametrize("regime", task.REGIMES)
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
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "16+44+21+62"}], return_tensors="pt")
    ids = prompt if not hasattr(prompt, "input_ids") else prompt.input_ids
    written = model.generate(ids, max_new_tokens=64, do_sample=False)
    assert "\\boxed{" in tokenizer.decode(written[0])


def test_fewer_test_problems_are_the_first_of_more(tmp_path):
    done = CliRunner().invoke(app, ["demo", "--folder", str(tmp_path), "--test-problems", "3"])
    assert done.exit_code == 0, done.output
    found = [p.chat[-1]["content"] for p in read_problems([tmp_path / "problems" / "test.parquet"])]
    assert found == [p.text for p in make.problems()[1][:3]]


@pytest.mark.parametrize("regime", task.REGIMES)
def test_the_package_says_how_its_model_was_made(regime):
    folder = make.BASE_MODELS / regime
    about = json.loads((folder / make.ABOUT).read_text())
    assert about["command"] == f"fpa-verl demo --regime {regime} --train-base"
    assert about["license"] == "Apache-2.0"
    assert (about["steps"], about["seed"]) == (make.WARM_START_STEPS, make.CORPUS_SEED)
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


@pytest.mark.parametrize("regime", task.REGIMES.values(), ids=task.REGIMES)
def test_a_corpus_has_its_shares(regime):
    from itertools import islice

    texts = [solution for _, solution in islice(task.corpus(0, frozenset(), regime), 2000)]
    worked = [text.split(";")[:-1] for text in texts if ";" in text]
    assert 1 - len(worked) / len(texts) == pytest.approx(regime.guesses, abs=0.04)
    steps = [step for steps in worked for step in steps]
    off = [step for step in steps if sum(map(int, step.split("=")[0].split("+"))) != int(step.split("=")[1])]
    assert len(off) / len(steps) == pytest.approx(regime.slips, abs=0.03)
