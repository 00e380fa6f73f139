"""Numbers of a task, worked out by hand beside each."""

from __future__ import annotations

import pytest

from fpa_verl.errors import ConfigError
from fpa_verl.rollouts.prompts import BARE
from fpa_verl.tasks.measure import Measured
from fpa_verl.tasks.numbers import learning_rate, numbers, power_of_two, round_down, validation_problems


def measured(problems=300, **changes):
    known = {
        "problems": problems,
        "test_problems": 120,
        "prompt_tokens": 49,
        "response_tokens": None,
        "trainable": None,
        "parameters": 0.8e6,
        "positions": 512,
        "prompt": BARE,
        "prompt_name": "chat",
    }
    return Measured(**{**known, **changes})


@pytest.mark.parametrize(
    ("problems", "held_out"),
    # A fifth of few, a hundred of more, a twentieth of many; one at the least.
    [(3, 1), (300, 60), (500, 100), (1_000, 100), (2_000, 100), (12_000, 600)],
)
def test_validation_problems(problems, held_out):
    assert validation_problems(problems) == held_out


def test_a_small_task():
    found = numbers(measured(), "cpu", 128)
    # 240 problems x 8, half of them, in batches of 64: 15 an epoch, 7 epochs to make a hundred updates.
    assert (found.batch, found.steps_an_epoch, found.epochs, found.test_freq) == (64, 15, 7, 10)
    # 49 tokens are 64 in sixteens.
    assert (found.prompt_tokens, found.response_tokens, found.model_tokens) == (64, 128, 192)
    # 17 passes of 240 problems, 16 at a time, are 255 steps.
    assert (found.prompts, found.mini_batch, found.online_steps, found.online_test_freq) == (16, 16, 200, 20)
    assert (found.lr, found.sft_lr, found.online_lr, found.eval_samples) == (3e-5, 3e-5, 3e-5, 4)
    assert found.micro_batch is None


def test_a_task_as_large_as_the_papers():
    found = numbers(measured(12_000, test_problems=500, parameters=4e9, positions=32_768), "h200x2")
    # 11,400 x 8 / 2 = 45,600 trajectories: 712 batches of 64.
    assert (found.batch, found.steps_an_epoch, found.epochs) == (64, 712, 3)
    assert (found.validation_problems, found.response_tokens, found.eval_samples) == (600, 2048, 8)
    # 17 x 11,400 / 128 = 1,514.
    assert (found.prompts, found.mini_batch, found.online_steps) == (128, 64, 1_000)
    assert (found.lr, found.sft_lr, found.online_lr, found.grad_clip) == (5e-6, 2e-5, 1e-6, 10.0)


@pytest.mark.parametrize("problems", [5, 24, 60, 300, 1_000, 12_000, 200_000])
def test_batches_divide_among_devices_and_are_no_larger_than_the_data(problems):
    found = numbers(measured(problems), "cpu", 64)
    training = problems - found.validation_problems
    assert found.batch % 8 == 0
    assert found.prompts % found.mini_batch == 0
    assert found.batch <= 4 * training
    assert found.prompts <= max(8, training)
    assert found.collect_batch <= max(64, training)
    assert 1 <= found.test_freq <= found.epochs * found.steps_an_epoch


def test_rollouts_at_hand_say_how_long_responses_are_and_how_many_train():
    found = numbers(measured(response_tokens=77, trainable=320), "cpu")
    assert (found.response_tokens, found.batch, found.steps_an_epoch) == (80, 32, 10)


def test_what_the_model_has_no_room_for_is_refused():
    assert numbers(measured(), "cpu").response_tokens == 512 - 64
    with pytest.raises(ConfigError, match=r"knows 512 positions: .* has 49 tokens, and 500 .* --response-tokens 448"):
        numbers(measured(), "cpu", 500)
    with pytest.raises(ConfigError, match=r"knows 512 positions, and the longest prompt has 600 tokens: leave long"):
        numbers(measured(prompt_tokens=600), "cpu")


def test_long_pairs_get_a_micro_batch_of_their_own():
    # 2 x (64 + 2,048) tokens.
    long = measured(positions=None)
    assert numbers(long, "cpu", 2048).micro_batch == 4_224
    assert numbers(long, "h200x2", 2048).micro_batch is None


def test_too_few_problems():
    with pytest.raises(ConfigError, match="2 problems are too few"):
        numbers(measured(2), "cpu", 64)
    for trainable in (0, 15):
        with pytest.raises(ConfigError, match=f"{trainable} rollouts that train are too few: an update takes 16"):
            numbers(measured(trainable=trainable), "cpu", 64)


def test_rounding():
    assert [power_of_two(value) for value in (0.3, 1, 30, 32, 1425)] == [1, 1, 16, 32, 1024]
    assert [round_down(value) for value in (0.2, 1, 4.9, 10.5, 49, 213, 1425)] == [1, 1, 2, 10, 20, 200, 1000]
    # 5e-6 x (4e9 / 0.5e9)^0.2 = 7.6e-6.
    assert learning_rate(5e-6, 0.2, 0.5e9) == 8e-6
