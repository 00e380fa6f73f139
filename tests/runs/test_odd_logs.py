"""Logs of verl that are not as one run of verl 0.9.1 leaves them: right numbers, or what is wrong and what to type.

A step is 37 s on 4 devices, 148 device-seconds: the file logger has no clock.
"""

from __future__ import annotations

import re
import subprocess

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError
from fpa_verl.report.comparisons import objectives, wallclock
from fpa_verl.runs.find import find_runs
from tests.runs.verl_steps import ACCURACIES, BEFORE, NAME, steps, trained, write_file


def reached(log):
    """Step to accuracy and device-seconds, of every problem set."""
    (run,) = find_runs([log], "H")
    return {(p.data_source, p.step): (p.accuracy, round(p.device_seconds)) for p in run.points}


def on(source, *numbers):
    return {(source, step): (ACCURACIES[step], seconds) for step, seconds in zip((5, 10, 15, 20), numbers, strict=True)}


PLAIN = on("openai/gsm8k", *(148 * step for step in (5, 10, 15, 20)))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("val/test_score/openai/gsm8k", "val/test_score/openai/gsm8k. If rewards are 0 or 1: `sed"),
        ("val/openai/gsm8k/accuracy", "val/openai/gsm8k/accuracy. Log the share of right answers under the name"),
        ("val-core/openai/gsm8k/score/mean@1", "val-core/openai/gsm8k/score/mean@1. Log the share"),
        ("val-core/openai/gsm8k/acc/best@4/mean", "val-core/openai/gsm8k/acc/best@4/mean. Log the share"),
        ("eval_accuracy", "eval_accuracy. Log"),
        ("test/math/pass@1", "test/math/pass@1. Log"),
    ],
)
def test_the_metric_that_is_looked_for_and_the_one_that_was_found(tmp_path, name, found):
    log = write_file(tmp_path / "log.jsonl", *steps(1, 20, name=name))
    for compare in (wallclock.compare, objectives.compare):
        with pytest.raises(DatasetError) as error:
            compare(find_runs([log], "H"))
        assert str(error.value).startswith(
            f"{log} has no accuracy: looked for val-core/SOURCE/acc/mean@N (or reward), found {found}"
        )


@pytest.mark.parametrize("source", ["openai/gsm8k", "it's#x", "aime.2024[a]*", "a&b|c", "two words"])
def test_the_line_that_renames_the_old_metric_does(tmp_path, source):
    log = write_file(tmp_path / "my log.jsonl", *steps(1, 20, name=f"val/test_score/{source}"))
    with pytest.raises(DatasetError) as error:
        wallclock.compare(find_runs([log]))
    command = re.search(r"`(sed .*? > renamed\.jsonl)`$", str(error.value))[1]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    renamed = tmp_path / "renamed.jsonl"
    assert f'"val-core/{source}/reward/mean@1"' in renamed.read_text()
    if source == "openai/gsm8k":
        assert reached(renamed) == PLAIN


def test_many_names_are_counted(tmp_path):
    more = {f"val-aux/toy/reward/std@{n}": 0.1 for n in range(6)}
    log = write_file(tmp_path / "log.jsonl", (1, trained(1, **more)))
    with pytest.raises(DatasetError, match=r"found val-aux/toy/reward/std@0, .*@1, .*@2 and 3 more\. Log"):
        wallclock.compare(find_runs([log]))


def test_a_log_that_was_not_validated(tmp_path):
    log = write_file(tmp_path / "log.jsonl", *steps(1, 4))
    with pytest.raises(DatasetError, match=r"no accuracy yet: looked for .* validate \(trainer.test_freq=10\)"):
        wallclock.compare(find_runs([log]))


def signed(value):
    return 2 * value - 1


def unchanged(value):
    return value


def thrice(value):
    return 3 * value


def per_cent(value):
    return 100 * value


@pytest.mark.parametrize(
    ("name", "change", "more", "said"),
    [
        (
            "val-core/m/reward/mean@8",
            signed,
            {},
            "m/reward/mean@8 goes from -0.2 to 0.32, and an accuracy from 0 to 1. Let",
        ),
        # All means of -1 and 1 lie above 0 here, and the rewards of training tell.
        (
            "val-core/m/reward/mean@8",
            lambda value: value,
            {"critic/score/min": -1.0},
            "rewards go from -1 to 1 (critic/",
        ),
        # Without the scores themselves, the rewards that are made of them.
        (
            "val-core/m/reward/mean@8",
            lambda value: value,
            {"critic/rewards/min": -1.02, "critic/rewards/mean": -0.2},
            "rewards go from -1.02 to -0.2 (critic/rewards/",
        ),
        (
            "val-core/m/reward/mean@8",
            lambda value: value,
            {"critic/score/max": 1.5},
            "rewards go from 0 to 1.5 (critic/",
        ),
        (
            "val-core/m/reward/mean@8",
            thrice,
            {},
            "goes from 1.2 to 1.98, and an accuracy from 0 to 1. Let",
        ),
        (
            "val-core/m/acc/mean@8",
            per_cent,
            {},
            "goes from 40 to 66, and an accuracy from 0 to 1 (per cent?)",
        ),
        ("val-core/m/acc/mean@8", signed, {}, "acc/mean@8 goes from -0.2 to 0.32, and an accuracy from 0 to 1. Let"),
    ],
)
def test_what_is_no_accuracy_is_said_with_its_numbers(tmp_path, name, change, more, said):
    log = write_file(tmp_path / "log.jsonl", *steps(1, 20, name=name, accuracy=change, **more))
    with pytest.raises(DatasetError) as error:
        wallclock.compare(find_runs([log]))
    assert said in str(error.value)
    assert "Let the reward function return" in str(error.value)


def test_rewards_less_a_kl_are_no_reason(tmp_path):
    log = write_file(tmp_path / "log.jsonl", *steps(1, 20, **{"critic/rewards/min": -0.03, "critic/rewards/max": 0.99}))
    assert reached(log) == PLAIN


def test_an_accuracy_beside_rewards_of_minus_1_and_1_is_one(tmp_path):
    aux = {
        "val-aux/math_dapo/reward/mean@32": -0.2,
        "critic/score/min": -1.0,
        "val-core/math_dapo/acc/best@32/mean": 0.9,
    }
    log = write_file(tmp_path / "log.jsonl", *steps(1, 20, name="val-core/math_dapo/acc/mean@32", **aux))
    assert reached(log) == on("math_dapo", *(148 * step for step in (5, 10, 15, 20)))


def test_of_two_means_of_a_step_the_accuracy_counts(tmp_path):
    both = {"val-core/toy/reward/mean@4": 0.9, "val-core/toy/acc/mean@1": 0.3, "val-core/toy/acc/mean@4": 0.4}
    assert reached(write_file(tmp_path / "log.jsonl", (1, trained(1, **both)))) == {("toy", 1): (0.4, 148)}


def test_such_a_log_beside_others_is_left_out_with_its_reason(tmp_path):
    odd = write_file(tmp_path / "odd.jsonl", *steps(1, 20, name="val/test_score/x"))
    plain = write_file(tmp_path / "plain.jsonl", *steps(1, 20))
    comparison = wallclock.compare(find_runs([odd, plain], "H"))
    assert [run.name for run in comparison.runs] == ["plain (file)"]
    assert comparison.notes()[0].startswith(f"Left out: {odd} has no accuracy: looked for val-core/SOURCE/acc/mean@N")
    done = CliRunner().invoke(app, ["report", str(odd), "--device", "H", "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "found val/test_score/x" in " ".join((done.output + str(done.exception)).split())


@pytest.mark.parametrize("begin", ["", "\n", "\n\n  \n", "\ufeff", "\ufeff\n"])
@pytest.mark.parametrize("end", ["", "\n", '{"step": 21, "da', "\n\n", '{"step": 21, "data": {"timing_s/gen": 2'])
def test_blank_lines_a_mark_of_the_byte_order_and_a_torn_end(tmp_path, begin, end):
    log = write_file(tmp_path / "log.jsonl", *steps(1, 20))
    log.write_text(begin + log.read_text().replace('{"step": 7,', '\n{"step": 7,') + end, encoding="utf-8")
    assert reached(log) == PLAIN


@pytest.mark.parametrize("line", ["null", "5", '{"step": 3}', '{"step": "x", "data": {}}', '{"step": 3, "data": []}'])
def test_a_line_that_is_none_of_the_logger_s(tmp_path, line):
    log = write_file(tmp_path / "log.jsonl", *steps(1, 2))
    log.write_text(f"{log.read_text()}{line}\n")
    with pytest.raises(DatasetError, match=r"log.jsonl begins like a log of verl and is damaged further on"):
        find_runs([log])


def test_numbers_that_are_none_are_as_if_they_were_not_logged(tmp_path):
    odd = {"actor/grad_norm": float("nan"), "critic/score/min": float("nan"), "actor/text": "x", "perf/x": float("inf")}
    assert reached(write_file(tmp_path / "log.jsonl", *steps(1, 20, **odd))) == PLAIN


def test_what_a_resumed_run_appended_is_another_attempt(tmp_path):
    log = write_file(tmp_path / "log.jsonl", BEFORE, *steps(1, 13), *steps(11, 20))
    # Steps 11 to 13 were paid for twice: 18 by step 15, 23 by step 20.
    numbers = (148 * 5, 148 * 10, 148 * 18, 148 * 23)
    assert reached(log) == {("openai/gsm8k", 0): (0.2, 0), **on("openai/gsm8k", *numbers)}
    (run,) = find_runs([log])
    assert run.spending.devices == [4, 4]
    assert "3 steps were done again by a later attempt (the first is 11) and count twice: if" in " ".join(run.caveats)


@pytest.mark.parametrize(
    ("first", "second", "paid"),
    [
        # Killed right after step 10, and evaluated there once more; begun anew after step 7; killed in step 20.
        (steps(1, 10), [(10, {NAME: 0.5}), *steps(11, 20)], [5, 10, 15, 20]),
        (steps(1, 7), [BEFORE, *steps(1, 20)], [5, 17, 22, 27]),
        (steps(1, 19), steps(20, 20), [5, 10, 15, 20]),
        (steps(1, 12), steps(12, 20), [5, 10, 16, 21]),
    ],
)
def test_other_places_to_go_on_from(tmp_path, first, second, paid):
    found = reached(write_file(tmp_path / "log.jsonl", *first, *second))
    found.pop(("openai/gsm8k", 0), None)
    assert found == on("openai/gsm8k", *(148 * step for step in paid))


def test_a_log_without_throughput_says_what_to_do(tmp_path):
    logged = [(s, {k: v for k, v in data.items() if k != "perf/throughput"}) for s, data in steps(1, 20)]
    with pytest.raises(DatasetError, match=r"perf/throughput is missing\): log it with .*, or leave the log out"):
        find_runs([write_file(tmp_path / "log.jsonl", *logged)])


def test_a_number_of_answers_that_changes_is_said(tmp_path):
    four = steps(12, 20, name="val-core/openai/gsm8k/reward/mean@4")
    log = write_file(tmp_path / "log.jsonl", *steps(1, 11), *four)
    assert reached(log) == PLAIN
    (run,) = find_runs([log])
    assert "accuracies on openai/gsm8k are of 1 and 4 answers to each problem" in " ".join(run.caveats)


def test_two_problem_sets_each_have_their_accuracy(tmp_path):
    logged = [
        (s, {**data, "val-core/AIME 2024/acc/mean@32": data[NAME] / 4} if NAME in data else data)
        for s, data in steps(1, 20)
    ]
    found = reached(write_file(tmp_path / "log.jsonl", *logged))
    assert {key: value for key, value in found.items() if key[0] == "openai/gsm8k"} == PLAIN
    assert found["AIME 2024", 20] == (pytest.approx(0.165), 148 * 20)


def test_the_same_of_tensorboard_s_files(tmp_path):
    """What was found is known of every logger."""
    module = pytest.importorskip("torch.utils.tensorboard")
    with module.SummaryWriter(str(tmp_path / "exp")) as writer:
        for step, data in steps(1, 6, name="val/test_score/toy"):
            for name, value in data.items():
                writer.add_scalar(name, value, step)
    with pytest.raises(DatasetError, match=r"found val/test_score/toy\. Log the share of right answers"):
        wallclock.compare(find_runs([tmp_path]))
