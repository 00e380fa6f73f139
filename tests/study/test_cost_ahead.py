"""Plans, against sums made by hand."""

from __future__ import annotations

import json
import re

import pytest
from transformers import AutoConfig
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import ConfigError
from fpa_verl.files import append_json_line
from fpa_verl.gpus import gpu_named
from fpa_verl.runs.find import find_runs
from fpa_verl.study.cost_ahead import (
    ASSUMPTIONS,
    Rates,
    Workload,
    complete,
    measured_rates,
    plan,
    runs_alike,
    training_estimate,
)
from tests.runs.directories import make_run

# 100 problems x 4 rollouts of 20 + 80 tokens; half of them trained on, twice; 10 online steps of 5 prompts x 4.
SMALL = Workload(
    response_tokens=80.0,
    prompt_tokens=20.0,
    problems=100,
    rollouts=4,
    trained_share=0.5,
    epochs=2,
    online_steps=10,
    online_prompts=5,
)
RATES = Rates(generation=100.0, training=50.0, forward=200.0)


def seconds(phases):
    return {(phase.side, phase.name): phase.device_hours * 3600 for phase in phases}


def test_tokens_over_rates():
    assert seconds(plan(SMALL, RATES)) == pytest.approx(
        {
            ("offline", "collect"): 400 * 80 / 100,
            ("offline", "reference"): 400 * 100 / 200,
            ("offline", "training"): 400 * 100 / 50,
            ("online", "generation"): 200 * 80 / 100,
            ("online", "log-probs"): 200 * 100 / 200,
            ("online", "training"): 200 * 100 / 50,
        }
    )


def test_both_readings_of_the_papers_batch_stand_side_by_side():
    """128 prompts of 8 rollouts a step, or 16: an eighth of it. 1,500 x 128 x 8 x 800 tokens / 5,000 = 68.27 h."""
    arguments = ["plan", "--response-tokens", "800", "--generation-rate", "5000", "--training-rate", "16000"]
    output = CliRunner().invoke(app, arguments).output
    assert re.search(r"online, 128 prompts a step: generation +1,228\.80 +5,000 +68\.27", output)
    assert re.search(r"online, 16 prompts a step: generation +153\.60 +5,000 +8\.53", output)
    one = CliRunner().invoke(app, [*arguments, "--online-prompts", "128"]).output
    assert re.search(r"online: generation +1,228\.80 +5,000 +68\.27", one)
    assert "16 prompts" not in one
    # 128 trajectories in groups of 4 are 32 prompts; the same number twice is one plan.
    assert "online, 32 prompts a step" in CliRunner().invoke(app, [*arguments, "--rollouts", "4"]).output
    twice = CliRunner().invoke(app, [*arguments, "--online-prompts", "128", "--online-prompts", "128"]).output
    assert twice == one


def test_a_cache_passes_each_trajectory_once():
    # 200 trajectories of 100 tokens and not 2 epochs of them.
    assert seconds(plan(SMALL, RATES, cached=True))["offline", "reference"] == pytest.approx(200 * 100 / 200)


def test_rates_from_the_arithmetic_and_from_one_another():
    # 1e12 x 0.5 / (6 x 1e9) = 83.3 tokens a second.
    assert training_estimate(1e9, 1e12, 0.5) == pytest.approx(83.333333)
    assert complete({"generation": 10.0, "training": 20.0}, {}) == Rates(10.0, 20.0, 60.0)


def test_what_is_known_wins_over_an_estimate():
    estimates = {"generation": 1.0, "training": 2.0}
    assert complete({}, estimates) == Rates(1.0, 2.0, 6.0, frozenset({"generation", "training", "forward"}))
    assert complete({"training": 5.0}, estimates) == Rates(1.0, 5.0, 15.0, frozenset({"generation"}))
    assert complete({"forward": 7.0}, estimates) == Rates(1.0, 2.0, 7.0, frozenset({"generation", "training"}))
    with pytest.raises(ConfigError, match="forward must be above 0"):
        complete({"forward": 0.0}, estimates)


def test_runs_alike_are_those_of_the_model_on_such_gpus(tmp_path):
    def run(name, device, model):
        make_run(tmp_path / "runs" / name, [1], model=model, hardware={"devices": 2, "device": device})

    run("here", "NVIDIA H200", "m")
    run("elsewhere", "NVIDIA H100 80GB HBM3", "m")
    run("another", "NVIDIA H200", "n")

    def found():
        alike, unread = runs_alike(tmp_path / "runs", gpu_named("h200"), "m")
        return [one.name for one in alike], unread

    assert found() == (["here"], [])
    assert runs_alike(tmp_path / "nowhere", gpu_named("h200"), "m") == ([], [])
    # One that is damaged takes no other with it, and one that says nothing of its machine is of none.
    (tmp_path / "runs" / "another" / "run.json").write_text("{")
    run("nothing", None, "m")
    info = json.loads((tmp_path / "runs" / "elsewhere" / "run.json").read_text())
    del info["hardware"]
    (tmp_path / "runs" / "elsewhere" / "run.json").write_text(json.dumps(info))
    assert found() == (["here"], [tmp_path / "runs" / "another"])


def test_a_run_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "broken").mkdir(parents=True)
    (tmp_path / "runs" / "broken" / "run.json").write_text("{")
    assert "Damaged, and left out of what is measured: runs/broken." in CliRunner().invoke(app, ["plan"]).output


@pytest.mark.parametrize(
    "words",
    [
        *(("--rollouts", "0"), ("--problems", "0"), ("--trained-share", "-1"), ("--trained-share", "2")),
        *(("--online-prompts", "-1"), ("--response-tokens", "-5"), ("--utilisation", "5"), ("--epochs", "-1")),
        *(("--memory", "--micro-batch-tokens", "-5"), ("--parameters", "0")),
    ],
)
def test_what_no_workload_has_is_refused(words):
    done = CliRunner().invoke(app, ["plan", *words])
    assert done.exit_code == 2
    assert words[-2] in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--override", "a=1"), "add --memory"),
        (("--micro-batch-tokens", "2048"), "add --memory"),
        (("--utilisation", "0"), "rate of training, forward must be above 0"),
    ],
)
def test_what_would_change_nothing_is_refused(words, message):
    error = CliRunner().invoke(app, ["plan", *words]).exception
    assert isinstance(error, ConfigError)
    assert message in str(error)


def planned(folder, config, *words):
    config.save_pretrained(folder)
    return CliRunner().invoke(app, ["plan", "--model", str(folder), *words])


SMALL_MODEL = {"vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "falcon", "bloom"])
def test_models_with_a_head_of_keys_for_each_of_queries_are_planned(tmp_path, kind):
    done = planned(tmp_path, AutoConfig.for_model(kind, **SMALL_MODEL))
    assert done.exit_code == 0, done.exception


@pytest.mark.parametrize(
    ("kind", "sizes", "message"),
    [
        ("mamba", {"vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2}, "give --generation-rate"),
        ("t5", {}, "no parameters counted .*: give --parameters"),
        ("dbrx", {}, "chooses experts token by token: give --parameters"),
        ("qwen3_moe", {}, "chooses experts token by token: give --parameters"),
    ],
)
def test_what_cannot_be_told_of_a_model_is_asked_for(tmp_path, kind, sizes, message):
    config = AutoConfig.for_model(kind, **sizes)
    error = planned(tmp_path, config).exception
    assert isinstance(error, ConfigError)
    assert re.search(message, str(error))
    done = planned(tmp_path, config, "--parameters", "3e9", "--generation-rate", "5000")
    assert done.exit_code == 0, done.exception
    if kind == "qwen3_moe":
        # Keys and values are known of it.
        assert planned(tmp_path, config, "--parameters", "3e9").exit_code == 0


def test_without_an_option_the_plan_is_the_papers_and_says_what_is_estimated(tmp_path, monkeypatch):
    """Its 1 h + 2 h and 21 h on two H200 (Section 4.3)."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["plan"])
    assert done.exit_code == 0, done.output
    hours = {
        side: float(value) for side, value in re.findall(r"^ (off|on)line.*, all.* (\S+) *$", done.output, re.M)[:2]
    }
    assert hours["off"] == pytest.approx(3, rel=0.1)
    assert hours["on"] == pytest.approx(21, rel=0.1)
    rates = re.findall(r"(?:collect|reference|training|generation|log-probs) +[\d,.]+ +(\S+)", done.output)
    assert len(rates) == 9
    assert all(rate.startswith("~") for rate in rates)
    evening = done.output[done.output.index("The evening") :]
    assert [line.split()[0] for line in evening.splitlines()[4:10]] == [
        "as", "weights", "evaluations", "checkpoints", "start-up", "all",
    ]  # fmt: skip


def test_rates_measured_by_runs(tmp_path):
    dataset = {
        "fingerprint": "d",
        "device_seconds": 100.0,
        "cost": {"device": "H", "devices": 2, "device_seconds": {"generation": 100.0}},
        "counts": {"response_tokens": 5_000},
    }
    run = make_run(tmp_path / "a", [1], dataset=dataset)
    record = {"kind": "step", "time": 0, "attempt": 1, "step": 1, "seconds": {"training": 10.0}, "tokens": 1_600}
    append_json_line(run / "ledger.jsonl", record)
    # 5,000 / 100, and 1,600 tokens in 10 s on 2 devices.
    assert measured_rates(find_runs([tmp_path])) == {"generation": 50.0, "training": 80.0}
    assert measured_rates([]) == {}


def test_the_paper_lies_between_what_no_overhead_and_some_would_make_of_it():
    """The paper's 21 h against 3 h is a ratio of 7.

    Without overheads, online over offline is (1536 k trajectories) x (1/g + c) over 96 k x 1/g + 288 k x c, where c
    are the seconds a token of a forward and a backward: 16 where generation is all, 5.33 where training is.
    """
    work = Workload(response_tokens=800.0, prompt_tokens=0.0)

    def online_over_offline(rates):
        hours = {"offline": 0.0, "online": 0.0}
        for phase in plan(work, rates):
            hours[phase.side] += phase.device_hours
        return hours["online"] / hours["offline"]

    assert online_over_offline(Rates(1.0, 1e12, 1e12)) == pytest.approx(16, rel=1e-6)
    assert online_over_offline(Rates(1e12, 1.0, 3.0)) == pytest.approx(16 / 3, rel=1e-6)


def test_command_prints_sums_and_assumptions():
    options = ["--response-tokens", "80", "--prompt-tokens", "20", "--problems", "100", "--rollouts", "4"]
    options += ["--trained-share", "0.5", "--epochs", "2", "--online-steps", "10", "--online-prompts", "5"]
    options += ["--generation-rate", "100", "--training-rate", "50", "--forward-rate", "200"]
    done = CliRunner().invoke(app, ["plan", *options])
    assert done.exit_code == 0, done.output
    # 320 + 200 + 800 = 1,320 s and 160 + 100 + 400 = 660 s, in minutes, and on 2 devices.
    assert "offline, all" in done.output
    assert next(line.split()[-2:] for line in done.output.splitlines() if "offline, all" in line) == ["22.00", "11.00"]
    assert next(line.split()[-2:] for line in done.output.splitlines() if "online, all" in line) == ["11.00", "5.50"]
    assert len(ASSUMPTIONS) == 6
    assert "6. Start-up" in done.output
