"""`fpa-verl report --power`, against variances and sample sizes worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import ConfigError, DatasetError, MismatchError
from fpa_verl.evaluation.power import Variances
from fpa_verl.files import append_json_line
from fpa_verl.runs.run import read_run
from fpa_verl.runs.verl_logs import VerlLog
from fpa_verl.study.power import ProblemSet, paper_sets, required
from tests.runs.directories import INFO, make_run

# Standard errors that a difference must have, without Student's correction: 1.959964 + 0.841621.
NORMAL = 2.801585


def report(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def evaluated(folder, problems, **changes):
    """What `recipe=evaluate` leaves: the outcomes of one problem set, at step 0."""
    make_run(folder, [], kind="evaluation", **changes)
    line = {"attempt": 1, "step": 0, "data_source": "toy", "problems": problems, "unscored": 0}
    append_json_line(folder / "evaluations.jsonl", line)
    return read_run(folder)


def half_right(n, first=0):
    """Problem i is right twice of 4 times, but for the `first` problems, which are right always."""
    return {f"p{i:03d}": [4 if i < first else 2, 4] for i in range(n)}


def test_two_runs_by_hand(tmp_path):
    # 100 problems, 4 samples, share 1/2 in either: no difference anywhere, so nothing between problems.
    # Unbiased variance of one sample: 1/2 * 1/2 * 4/3 = 1/3 from each run, W = 2/3.
    runs = [evaluated(tmp_path / name, half_right(100)) for name in "ab"]
    (toy,) = required(0.1, runs).sets
    assert (toy.name, toy.problems, toy.samples) == ("toy", 100, 4)
    assert (toy.variances.between, toy.variances.within) == (0.0, pytest.approx(2 / 3))
    # Standard error sqrt(2/3 / 4 / 100) = 0.040825; times 2.8016 = 0.1144, with Student's t of 99 about 1 % more.
    assert toy.smallest_difference == pytest.approx(NORMAL * math.sqrt(1 / 600), rel=0.02)
    # 10 points on 100 problems: 2/3 / (100 (0.1 / 2.8016)^2) = 5.23 samples, 5.3 with Student's t.
    assert toy.samples_needed(0.1) == 6
    # With the 4 samples there are: (2.8016 / 0.1)^2 * 2/3 / 4 = 130.8 problems, and about 2 more.
    assert toy.problems_needed(0.1)[4] in (132, 133)


def test_one_run_by_hand(tmp_path):
    # 60 of 120 problems always right, the others half the time: shares 1 and 1/2, variance 1/16 * 120/119.
    # W of a share of 1/2 is 1/3, of 1 it is 0: mean 1/6, of which 1/24 explains. 2 (1 - 0.8) of the rest is B.
    (toy,) = required(0.05, [evaluated(tmp_path / "a", half_right(120, first=60))]).sets
    assert toy.variances.between == pytest.approx(0.4 * (120 / 119 / 16 - 1 / 24))
    assert toy.variances.within == pytest.approx(2 / 6)


def test_the_paper_s_benchmarks_without_a_run():
    found = {one.name: (one.problems, one.samples) for one in paper_sets()}
    # Sets of one benchmark together: 2 x 279, 40 + 45, 3 x 30.
    assert found == {
        "GSM8K": (1319, 8),
        "MATH500": (500, 8),
        "MATH-Perturb": (558, 8),
        "GaoKao2023En": (385, 8),
        "OlympiadBench": (675, 8),
        "AMC23/24": (85, 32),
        "AIME24/25/26": (90, 32),
    }
    # 2 * 0.2 * 0.6 * 0.21 between, 2 * 0.4 * 0.21 within.
    assert paper_sets()[0].variances == Variances(pytest.approx(0.0504), pytest.approx(0.168))


def test_out_of_reach_with_any_number_of_samples():
    # 500 problems, 2 points: (0.02 / 2.8016)^2 * 500 = 0.0255 is less than B = 0.0504.
    # GSM8K: (0.02 / 2.8016)^2 * 1,319 = 0.0672; 0.168 / (0.0672 - 0.0504) = 10.0, with Student's t a little more.
    found = required(0.02, [])
    needed = {one.name: one.samples_needed(0.02) for one in found.sets}
    assert needed["MATH500"] is None
    assert needed["GSM8K"] == 11
    (beyond,) = [note for note in found.notes() if "cannot be reached with any number of samples" in note]
    assert "500 problems (MATH500)" in beyond
    assert "GSM8K" not in beyond


def test_what_is_asked_for_is_what_it_takes():
    """At its smallest difference a set has a chance of 80 %, and needs the samples and problems that it has."""
    one = ProblemSet("s", 300, 4, Variances(0.05, 0.16))
    least = one.smallest_difference
    assert one.chance(least) == pytest.approx(0.8, abs=1e-3)
    assert one.samples_needed(least * 1.0001) == 4
    assert one.problems_needed(least * 1.0001)[4] == 300


def test_only_problems_that_both_runs_sampled_count(tmp_path):
    first = evaluated(tmp_path / "a", half_right(100))
    # 50 of them with 2 samples, one of which is right; one problem was never scored.
    second = evaluated(tmp_path / "b", {**{f"p{i:03d}": [1, 2] for i in range(50)}, "p060": [0, 0]})
    (toy,) = required(0.1, [first, second]).sets
    assert (toy.problems, toy.samples) == (50, 2)


def test_the_command_writes_markdown_and_json(tmp_path):
    for name in "ab":
        evaluated(tmp_path / name, half_right(100))
    done = report(tmp_path / "a", tmp_path / "b", "--power", 0.1, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["power.json", "power.md"]
    content = json.loads((tmp_path / "out" / "power.json").read_text())
    assert content["difference"] == 0.1
    assert content["sets"][0]["samples_needed"] == 6
    assert str(tmp_path / "a") in content["variances_from"]
    assert "--power 0.1" in content["provenance"]["command"]
    shown = (tmp_path / "out" / "power.md").read_text()
    assert "| toy | 100 | 4 | 0.0000 | 0.6667 | 11.5 | " in shown
    assert "seeing 10 points" in shown


def test_the_command_without_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = report("--power", 0.02)
    assert done.exit_code == 0, done.output
    assert "assumed and not measured" in " ".join(done.output.split())
    content = json.loads((tmp_path / "report" / "power.json").read_text())
    assert {one["set"]: one["samples_needed"] for one in content["sets"]}["MATH500"] is None
    assert content["provenance"]["inputs"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--power", "2"], "2: a difference in accuracy from 0.001 to 1, such as 0.02"),
        (["--power", "0"], "0: a difference"),
        (["--power", "nan"], "nan: a difference"),
        (["--power", "0.1", "--compare", "cost"], "--compare says nothing beside --power"),
        (["--power", "0.1", "--target", "0.5"], "--target says nothing beside --power"),
        (["--power", "0.1", "--device", "H"], "--device says nothing beside --power"),
        (["--power", "0.1", "--on", "toy"], "--on toy needs a run"),
    ],
)
def test_wrong_options(arguments, message):
    done = report(*arguments)
    assert isinstance(done.exception, ConfigError)
    assert message in str(done.exception)


def test_runs_that_make_no_pilot(tmp_path):
    some = evaluated(tmp_path / "a", half_right(10))
    with pytest.raises(DatasetError, match=r"these are 3: .*: fpa-verl power 0\.1 "):
        required(0.1, [some, some, some])
    with pytest.raises(DatasetError, match=r"toy is left out: .*at least twice"):
        required(0.1, [evaluated(tmp_path / "once", {"p0": [1, 1], "p1": [0, 1]})])
    with pytest.raises(DatasetError, match="came out alike"):
        required(0.1, [evaluated(tmp_path / "all", {f"p{i}": [4, 4] for i in range(9)})])
    with pytest.raises(DatasetError, match="no evaluation on it yet"):
        required(0.1, [read_run(make_run(tmp_path / "young", []))])
    with pytest.raises(DatasetError, match="is a log of verl, which holds no outcome of a single problem"):
        required(0.1, [replace(some, log=VerlLog(tmp_path / "log.jsonl", "file", [], []))])
    (tmp_path / "nothing").mkdir()
    assert "no run in" in str(report(tmp_path / "nothing", "--power", 0.1).exception)


def test_models_may_differ_and_questions_may_not(tmp_path):
    first = evaluated(tmp_path / "a", half_right(10))
    other = {"fingerprints": {**INFO["fingerprints"], "model": "other"}}
    assert required(0.1, [first, evaluated(tmp_path / "b", half_right(10), **other)]).sets
    for place, (changes, what) in enumerate(
        [
            ({"fingerprints": {**INFO["fingerprints"], "scorer": "older"}}, "scorer differs"),
            ({"evaluation": {**INFO["evaluation"], "temperature": 1.0}}, "evaluation's temperature differs"),
            ({"evaluation": {**INFO["evaluation"], "problem_sets": {"toy": "x"}}}, "problem set toy differs"),
        ]
    ):
        with pytest.raises(MismatchError, match=what):
            required(0.1, [first, evaluated(tmp_path / f"c{place}", half_right(10), **changes)])
    elsewhere = evaluated(
        tmp_path / "d", half_right(10), evaluation={**INFO["evaluation"], "problem_sets": {"else": "e"}}
    )
    with pytest.raises(DatasetError, match="no problem set in common"):
        required(0.1, [first, elsewhere])


def test_a_training_run_is_judged_at_its_last_evaluation(tmp_path):
    found = required(0.5, [read_run(make_run(tmp_path / "a", [0, 2]))])
    # Validation apart, "toy" is left; 2 of 4 problems are right both times: variance 1/3, all between.
    (toy,) = found.sets
    assert (toy.name, toy.problems, toy.samples) == ("toy", 4, 2)
    assert (toy.variances.between, toy.variances.within) == (pytest.approx(0.4 / 3), 0.0)
    assert "a (step 1)" in found.origin


def test_of_several_runs_two_methods_are_named_to_type(tmp_path):
    data = {"fingerprint": "d", "device_seconds": 1.0, "cost": {"device": "H"}}
    made = (("d", "dpo", data), ("f", "fpa_offline", data), ("g", "grpo_baseline", None), ("g1", "grpo_baseline", None))
    runs = [evaluated(tmp_path / name, half_right(10), recipe=recipe, dataset=data) for name, recipe, data in made]
    with pytest.raises(DatasetError, match="these are 4: ") as refused:
        required(0.05, runs)
    assert str(refused.value).endswith(f"fpa-verl power 0.05 {tmp_path}/f {tmp_path}/g")
    with pytest.raises(DatasetError) as refused:
        required(0.05, [runs[0], *runs[2:]])
    assert str(refused.value).endswith(f"fpa-verl power 0.05 {tmp_path}/d {tmp_path}/g")
