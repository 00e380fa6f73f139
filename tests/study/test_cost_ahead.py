"""Plans, against sums made by hand."""

from __future__ import annotations

import re

import pytest
from transformers import AutoConfig
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import ConfigError
from fpa_verl.files import append_json_line
from fpa_verl.study.cost_ahead import ASSUMPTIONS, Workload, plan
from fpa_verl.study.rates import Rates
from tests.runs.directories import make_run

# 100 of 125 problems x 4 rollouts of 20 + 80 tokens; half of them trained on, twice; 10 online steps of 5 prompts x 4.
SMALL = Workload(
    response_tokens=80.0,
    prompt_tokens=20.0,
    problems=125,
    held_out=0.2,
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
        *(("--memory", "--micro-batch-tokens", "-5"), ("--parameters", "0"), ("--held-out", "1.5")),
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


def joined(output):
    """What was printed, without the ends of its lines."""
    return " ".join(output.split())


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
        ("qwen3_5_text", {}, r"layers \(linear_attention\) that keep something else .*: give --generation-rate"),
        ("zamba2", {}, r"layers \(hybrid, mamba\) that keep something else .*: give --generation-rate"),
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
        # Keys and values are known of it, and all of its weights, which are pushed and read.
        done = planned(tmp_path, config, "--parameters", "3e9")
        assert done.exit_code == 0, done.exception
        assert "All 15.35e9 weights are pushed" in joined(done.output)
        assert "~ training: 6 FLOP a token and parameter, 3.00e9 of them" in joined(done.output)
        assert "~ generation: 15.35e9 weights" in joined(done.output)


def test_without_an_option_the_plan_is_the_papers_and_says_what_is_estimated(tmp_path, monkeypatch):
    """Beside its 1 h + 2 h and 21 h on two H200 (Section 4.3) stand the parts, and not the sums alone."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["plan"])
    assert done.exit_code == 0, done.output
    hours = {
        side: float(value) for side, value in re.findall(r"^ (off|on)line.*, all.* (\S+) *$", done.output, re.M)[:2]
    }
    assert hours == {"off": 2.89, "on": 20.96}
    beside = done.output[done.output.index("The paper's hours") :]
    for line, papers, plans, ratio in (
        ("offline: collecting", "1", "0.42", "0.42"),
        ("offline: training, the reference in it", "2", "2.47", "1.24"),
        ("offline, all", "3", "2.89", "0.96"),
        ("online, 128 prompts a step", "21", "20.96", "1.00"),
    ):
        assert re.search(rf"^ {line} +{papers} +{plans} +{ratio} *$", beside, re.M), line
    rates = re.findall(r"(?:collect|reference|training|generation|log-probs) +[\d,.]+ +(\S+)", done.output)
    assert len(rates) == 9
    assert all(rate.startswith("~") for rate in rates)
    evening = done.output[done.output.index("The evening") :]
    assert [line.split()[0] for line in evening.splitlines()[4:10]] == [
        "as", "weights", "evaluations", "checkpoints", "start-up", "all",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "words", [("--problems", "1000"), ("--gpu", "h100"), ("--devices", "4"), ("--epochs", "2"), ("--parameters", "1e9")]
)
def test_another_workload_or_machine_than_the_papers_stands_beside_nothing(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    others = ("--model", "nowhere", "--generation-rate", "5000") if words[0] == "--parameters" else ()
    done = CliRunner().invoke(app, ["plan", *words, *others])
    assert done.exit_code == 0, done.exception
    assert "The paper's hours" not in done.output


def test_a_run_of_fpa_pays_its_reference_once(tmp_path, monkeypatch):
    """It trained 12,300 tokens a device-second, the reference's pass in it: 218.88e6 tokens are 2.47 h on 2."""
    monkeypatch.chdir(tmp_path)
    run = make_run(
        *(tmp_path / "runs" / "fpa", [1]),
        model="Qwen/Qwen3-4B-Base",
        hardware={"devices": 2, "device": "NVIDIA H200"},
        inputs=[
            {"kind": "dataset", "folder": "", "fingerprint": "d", "base_model": "m", "device_seconds": 0.0, "cost": {}}
        ],
        forward_passes=1,
    )
    record = {"kind": "step", "time": 0, "attempt": 1, "step": 1, "seconds": {"training": 10.0}, "tokens": 246_000}
    append_json_line(run / "ledger.jsonl", record)
    output = CliRunner().invoke(app, ["plan", "--online-prompts", "128"]).output
    assert re.search(r"offline: training, the reference in it +2 +2\.47 ", output)
    # GRPO's training has no such pass in it: 12,300 x 4 / 3.
    assert re.search(r"online: training +1,228\.80 +16,400 ", output)
    assert "Of fpa the forward passes within a training step were taken off" in joined(output)


def test_what_cannot_train_is_said_and_what_cannot_generate_refused(tmp_path):
    sizes = ("--gpu", "a100", "--devices", "1", "--generation-rate", "5000")
    done = planned(tmp_path, AutoConfig.for_model("qwen3", **SMALL_MODEL), "--parameters", "28.9e9", *sizes)
    assert joined(done.output).startswith(
        "This does not fit on 1 A100: to train all weights takes 16 bytes a parameter"
    )
    assert "439 GiB a GPU of 79." in joined(done.output)
    assert "28.90e9, is taken for all weights." in joined(done.output)
    error = planned(
        tmp_path, AutoConfig.for_model("qwen3", **SMALL_MODEL), "--parameters", "28.9e9", *sizes[:4]
    ).exception
    assert isinstance(error, ConfigError)
    assert "a rollout engine on one A100 has 47 of its 79 GiB, and the weights in bfloat16 take 54" in str(error)


def test_the_paper_lies_between_what_no_overhead_and_some_would_make_of_it():
    """The paper's 21 h against 3 h is a ratio of 7.

    Without overheads, online over offline is (1536 k trajectories) x (1/g + c) over 91.2 k x 1/g + 273.6 k x c, where
    c are the seconds a token of a forward and a backward: 16.84 where generation is all, 5.61 where training is.
    """
    work = Workload(response_tokens=800.0, prompt_tokens=0.0)

    def online_over_offline(rates):
        hours = {"offline": 0.0, "online": 0.0}
        for phase in plan(work, rates):
            hours[phase.side] += phase.device_hours
        return hours["online"] / hours["offline"]

    assert online_over_offline(Rates(1.0, 1e12, 1e12)) == pytest.approx(1536 / 91.2, rel=1e-6)
    assert online_over_offline(Rates(1e12, 1.0, 3.0)) == pytest.approx(1536 / 273.6, rel=1e-6)


def test_command_prints_sums_and_assumptions():
    options = [
        "--response-tokens",
        "80",
        "--prompt-tokens",
        "20",
        "--problems",
        "125",
        "--held-out",
        "0.2",
        "--rollouts",
        "4",
    ]
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
