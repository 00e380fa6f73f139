"""What a plan adds to its cost, against sums made by hand."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from fpa_verl.paths import RECIPES
from fpa_verl.study.cost_ahead import Workload, plan
from fpa_verl.study.evening import DISK_RATE, PUSH_RATE, START_UP, evening_table, schedules, stops
from fpa_verl.study.rates import Rates

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
    offline, online = schedules(WORK, SCALE, test_problems=20)
    # 95 x 4 x 2 / 64 = 11.9 steps; evaluations before the first, after 5, 10 and the last; (20 + 5) x 8 answers.
    assert (offline.steps, offline.evaluations, offline.pushes, offline.checkpoints) == (12, 4, 4, 2)
    assert (offline.answers, offline.starts) == (200, 2)
    cached, _ = schedules(WORK, SCALE, test_problems=20, cached=True)
    assert cached.starts == 3
    assert (online.steps, online.evaluations, online.pushes, online.checkpoints, online.starts) == (25, 4, 25, 1, 1)


def test_how_long_it_takes():
    offline, _ = schedules(WORK, SCALE, test_problems=20)
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
    # 380 x 80 / 100 and 760 x 100 x (1 / 200 + 1 / 50) device-seconds on 2 devices.
    hours = (304 + 1_900) / 3600 / 2
    assert table.rows[0][:2] == ["as above", f"{hours:.2f}"]
    assert table.rows[1] == ["start-up", "0.50", "0.25"]
    assert table.rows[-1][1] == f"{hours + 0.5:.2f}"


def test_all_weights_are_pushed_whatever_a_token_goes_through():
    """30.5e9 of them 1,500 times, 4 bytes each at 3 GB a second: 17 h."""
    work = Workload(650.0)
    assert stops(work, RATES, 30.5e9, devices=2)["online"]["weights pushed"] == pytest.approx(16.94, abs=0.01)


def test_the_papers_steps_are_those_of_the_problems_that_train():
    task = OmegaConf.load(RECIPES / "task" / "math12k.yaml")
    work = Workload(650.0)
    assert work.held_out == task.validation.fraction
    offline, _ = schedules(work, task.scale, test_problems=500)
    # 11,400 x 8 x 3 / 64; (500 + 600) x 8; as the task's file says.
    assert (offline.steps, offline.answers, offline.evaluations, offline.checkpoints) == (4_275, 8_800, 10, 9)
