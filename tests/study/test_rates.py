"""Rates of a plan: what runs tell of them, and what the arithmetic does."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from fpa_verl.errors import ConfigError
from fpa_verl.files import append_json_line
from fpa_verl.gpus import GPUS, gpu_named
from fpa_verl.paths import RECIPES
from fpa_verl.runs.find import find_runs
from fpa_verl.study.rates import (
    READ_SHARE,
    Rates,
    complete,
    generation_estimate,
    measured,
    runs_alike,
    training_estimate,
)
from fpa_verl.study.room import ENGINE_SHARE, LEAST_SHARE, SEQUENCES, ModelSize, misfit, sequences_at_once
from tests.runs.directories import make_run, settings

DATASET = {
    "fingerprint": "d",
    "device_seconds": 100.0,
    "cost": {"device": "H", "devices": 2, "device_seconds": {"generation": 100.0}},
    "counts": {"response_tokens": 5_000},
}


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


@pytest.mark.parametrize(
    ("gpu", "device", "is_one"),
    [
        ("h200", "NVIDIA H200", True),
        ("h200", "NVIDIA GH200 480GB", False),
        ("h100", "NVIDIA H100 80GB HBM3", True),
        ("a100", "NVIDIA A100-SXM4-80GB", True),
        ("a100", "NVIDIA RTX A1000", False),
    ],
)
def test_a_gpu_is_known_by_a_whole_word_of_its_name(gpu, device, is_one):
    assert gpu_named(gpu).is_a(device) is is_one


def trained_offline(folder, tokens, **changes):
    """An offline run that trained so many tokens in 10 s on 2 devices."""
    run = make_run(folder, [1], dataset=DATASET, **changes)
    record = {"kind": "step", "time": 0, "attempt": 1, "step": 1, "seconds": {"training": 10.0}, "tokens": tokens}
    append_json_line(run / "ledger.jsonl", record)


def test_rates_measured_by_runs(tmp_path):
    trained_offline(tmp_path / "a", 1_600, forward_passes=0)
    found = measured(find_runs([tmp_path]))
    # 5,000 / 100, and 1,600 tokens in 10 s on 2 devices.
    assert found.rates == {"generation": 50.0, "training": 80.0}
    assert found.said == ("Rates without ~ are given, or measured by a.",)
    assert measured([]).rates == {}
    assert measured([]).said == ()


def test_passes_within_a_step_are_taken_off(tmp_path):
    trained_offline(tmp_path / "fpa", 1_200, forward_passes=1)
    trained_offline(tmp_path / "kto", 800, forward_passes=3)
    found = measured(find_runs([tmp_path]))
    # 60 tokens a device-second are 80 without one third more of work, and 40 are 80 without three.
    assert found.rates["training"] == pytest.approx(80.0)
    assert "Of fpa, kto the forward passes within a training step were taken off" in found.said[1]
    # A run that has none tells it better.
    trained_offline(tmp_path / "off_rl", 1_700, forward_passes=0)
    found = measured(find_runs([tmp_path]))
    assert found.rates["training"] == pytest.approx(85.0)
    assert len(found.said) == 1


def test_adapters_and_runs_that_say_nothing_of_their_passes_tell_no_rate_of_training(tmp_path):
    trained_offline(tmp_path / "lora", 9_000, forward_passes=0, training=settings(lora_rank=8))
    trained_offline(tmp_path / "before", 9_000)
    found = measured(find_runs([tmp_path]))
    assert found.rates == {"generation": 50.0}
    assert found.said == (
        "Rates without ~ are given, or measured by before.",
        "Left out of the rate of training, for not saying what passes a step has: before.",
        "Left out of what is measured, for training an adapter alone: lora.",
    )


# ---- estimates -------------------------------------------------------------------------------------


def test_generation_reads_weights_and_what_is_written():
    # A step reads 2 x 1e9 bytes of weights and 512 x 1e7 of keys and values: 7.12e9, for 512 tokens.
    rate = generation_estimate(gpu_named("h200"), ModelSize(1e9, 1e9, 1e7))
    assert rate == pytest.approx(512 * READ_SHARE * 4.8e12 / 7.12e9)


def test_no_more_sequences_are_at_work_than_the_engine_has_room_for():
    # Llama-8B: 32 layers x 2 x 8 x 128 x 2 bytes of 150 + 4,000 tokens; 512 of them were 259 GiB.
    size = ModelSize(8.03e9, 8.03e9, 131_072 * 4_150)
    # 0.6 x 139 GiB less 16.06e9 bytes, over 0.544e9.
    assert sequences_at_once(gpu_named("h200"), size) == 135
    with pytest.raises(ConfigError, match="on one A100 has 47 of its 79 GiB, and the weights in bfloat16 take 54"):
        sequences_at_once(gpu_named("a100"), ModelSize(28.9e9, 28.9e9, 1e8))


def test_the_engine_is_the_recipes():
    rollouts = [
        OmegaConf.load(RECIPES / file).actor_rollout_ref.rollout
        for file in ("hardware/h200x2.yaml", "recipe/grpo_baseline.yaml")
    ]
    assert (rollouts[0].max_num_seqs, rollouts[1].gpu_memory_utilization) == (SEQUENCES, ENGINE_SHARE)
    assert rollouts[0].gpu_memory_utilization == LEAST_SHARE


def test_weights_that_training_has_no_room_for_are_told():
    assert misfit(gpu_named("h200"), ModelSize(4e9, 4e9), 1) is None
    # 16 x 28.9e9 / 2^30 + 8 = 438.6.
    assert "16 bytes a parameter at the least, and 8 GiB set aside: 439 GiB a GPU of 79" in (
        misfit(gpu_named("a100"), ModelSize(28.9e9, 28.9e9), 1) or ""
    )
    # While an engine is awake: 12 x 4.02e9 / 2^30 + 0.4 x 79 + 8 = 84.5, and on two 62.1.
    assert "12 bytes a parameter beside the rollout engine's share of 0.4" in (
        misfit(gpu_named("h100"), ModelSize(4.02e9, 4.02e9), 1) or ""
    )
    assert misfit(gpu_named("h100"), ModelSize(4.02e9, 4.02e9), 2) is None


@pytest.mark.parametrize("gpu", GPUS)
def test_gpus_by_their_name(gpu):
    assert gpu_named(gpu.model.upper()) is gpu


def test_another_gpu_is_not_known():
    with pytest.raises(ConfigError, match="--gpu b200: choose from h200, h100, a100"):
        gpu_named("b200")
