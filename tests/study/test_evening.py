"""What a plan adds to its cost, against sums made by hand."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from fpa_verl.errors import ConfigError
from fpa_verl.gpus import GPUS, gpu_named
from fpa_verl.study.cost_ahead import READ_SHARE, Rates, Workload, generation_estimate, plan
from fpa_verl.study.evening import DISK_RATE, PUSH_RATE, START_UP, evening_table, schedules

RATES = Rates(generation=100.0, training=50.0, forward=200.0)
WORK = Workload(
    response_tokens=80.0, prompt_tokens=20.0, problems=100, rollouts=4, epochs=2, online_steps=25, online_prompts=5
)
SCALE = OmegaConf.create(
    {
        "eval_samples": 8,
        "offline": {"batch": 64, "test_freq": 5, "save_freq": 10},
        "online": {"test_freq": 10, "save_freq": 25},
    }
)


def test_how_often_a_run_stops():
    offline, online = schedules(WORK, SCALE, test_problems=20, validation_share=0.05)
    # 100 x 4 x 2 / 64 = 12.5 steps; evaluations before the first, after 5, 10 and the last; (20 + 5) x 8 answers.
    assert (offline.steps, offline.evaluations, offline.pushes, offline.checkpoints) == (13, 4, 4, 2)
    assert (offline.answers, offline.starts) == (200, 2)
    cached, _ = schedules(WORK, SCALE, test_problems=20, validation_share=0.05, cached=True)
    assert cached.starts == 3
    assert (online.steps, online.evaluations, online.pushes, online.checkpoints, online.starts) == (25, 4, 25, 1, 1)


def test_how_long_it_takes():
    offline, _ = schedules(WORK, SCALE, test_problems=20, validation_share=0.05)
    assert offline.hours(RATES, parameters=3e9, response_tokens=80.0, devices=2) == pytest.approx(
        {
            "weights pushed": 4 * 12e9 / PUSH_RATE / 3600,
            "evaluations": 4 * 200 * 80 / 100 / 2 / 3600,
            "checkpoints": 2 * 36e9 / DISK_RATE / 3600,
            "start-up": 2 * START_UP / 3600,
        }
    )


def test_the_evening_is_the_plan_and_its_stops():
    phases = plan(WORK, RATES)
    stops = {"offline": {"start-up": 0.5}, "online": {"start-up": 0.25}}
    table = evening_table(phases, stops, devices=2)
    assert table.header == ["", "offline", "online"]
    # 400 x 80 / 100 and 800 x 100 x (1 / 200 + 1 / 50) device-seconds on 2 devices.
    hours = (320 + 2_000) / 3600 / 2
    assert table.rows[0][:2] == ["as above", f"{hours:.2f}"]
    assert table.rows[1] == ["start-up", "0.50", "0.25"]
    assert table.rows[-1][1] == f"{hours + 0.5:.2f}"


def test_generation_reads_weights_and_what_is_written():
    # A step reads 2 x 1e9 bytes of weights and 512 x 100 x 1e5 of keys and values: 7.12e9, for 512 tokens.
    rate = generation_estimate(gpu_named("h200"), 1e9, 1e5, 100.0)
    assert rate == pytest.approx(512 * READ_SHARE * 4.8e12 / 7.12e9)


@pytest.mark.parametrize("gpu", GPUS)
def test_gpus_by_their_name(gpu):
    assert gpu_named(gpu.model.upper()) is gpu


def test_another_gpu_is_not_known():
    with pytest.raises(ConfigError, match="--gpu b200: choose from h200, h100, a100"):
        gpu_named("b200")
