"""Reward functions: found, known by their content, and called."""

from __future__ import annotations

import hashlib

import pytest

from fpa_verl.cli.options import given_function
from fpa_verl.errors import ConfigError
from fpa_verl.reward.function import OURS, RewardFunction, named
from fpa_verl.reward.math_answer import scorer_fingerprint

ENDS_IN = """
def grade(data_source, solution_str, ground_truth, extra_info=None, weight=1.0):
    return weight * float(solution_str.strip().endswith(ground_truth))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(ENDS_IN)
    return path


def test_ours_is_the_usual_one():
    assert OURS.is_ours
    assert OURS.fingerprint == scorer_fingerprint()
    assert OURS("toy", r"\boxed{2}", "2").status == "right"
    assert named("pkg://fpa_verl.reward.math_answer:compute_score").is_ours
    assert named("pkg://fpa_verl.reward.math_answer").is_ours


def test_a_function_of_ones_own(file):
    scorer = named(f"{file}:grade")
    assert scorer("toy", "it is 4", "4").score == 1.0
    assert scorer("toy", "it is 5", "4").status == "wrong"
    assert not scorer.is_ours


def test_it_is_known_by_file_name_threshold_and_arguments(file):
    one = RewardFunction(str(file), "grade")
    found = [
        one,
        RewardFunction(str(file), "other"),
        RewardFunction(str(file), "grade", threshold=0.5),
        RewardFunction(str(file), "grade", arguments={"weight": 0.5}),
    ]
    assert one.fingerprint.startswith("mine.py:grade/")
    file.write_text(ENDS_IN + "# changed\n")
    found.append(RewardFunction(str(file), "grade"))
    assert len({scorer.fingerprint for scorer in found}) == len(found)
    # Where it lies is another matter.
    copy = file.with_name("elsewhere")
    copy.mkdir()
    (copy / "mine.py").write_text(ENDS_IN)
    assert RewardFunction(str(copy / "mine.py"), "grade").fingerprint == one.fingerprint


def test_a_threshold_is_a_number_however_it_is_written(file):
    """hydra reads `reward.threshold=1` as a whole number, and `--threshold 1` is none."""
    whole, broken = (RewardFunction(str(file), "grade", threshold) for threshold in (1, 1.0))
    assert whole.fingerprint == broken.fingerprint
    # As it was before.
    called = hashlib.sha256((ENDS_IN + '["grade", 1.0, {}]').encode()).hexdigest()[:16]
    assert broken.fingerprint == f"mine.py:grade/{called}"


def test_verls_own_has_a_name():
    from verl.utils.reward_score import default_compute_score

    function = named("verl", 0.5)
    assert (function.path, function.function) == (None, default_compute_score)
    assert function("openai/gsm8k", "#### 42", "42").status == "right"


@pytest.mark.parametrize("name", ["verl", "mine.py:grade"])
def test_options_name_the_same_function(file, monkeypatch, name):
    monkeypatch.chdir(file.parent)
    one = named(name, 0.12345678, {"weight": 2})
    options = dict(zip(*[iter(one.options)] * 2, strict=True))
    same = given_function(options["--reward"], options["--reward-args"], float(options["--threshold"]))
    assert same is not None
    assert same.fingerprint == one.fingerprint


def test_what_a_manifest_keeps_is_the_same_function(file):
    one = RewardFunction(str(file), "grade", 0.5, {"weight": 0.5})
    assert RewardFunction(**one.as_json()).fingerprint == one.fingerprint


def test_arguments_and_threshold(file):
    scorer = RewardFunction(str(file), "grade", threshold=0.25, arguments={"weight": 0.5})
    assert scorer("toy", "4", "4").status == "right"
    with pytest.raises(ConfigError, match=r"grade in .*mine\.py returned a score of 0\.5, .* set reward\.threshold"):
        RewardFunction(str(file), "grade", arguments={"weight": 0.5})("toy", "4", "4")


def test_a_file_that_was_changed_within_a_second(file):
    """An import would go by time and size of the file, and run what it had compiled."""
    for wanted, sign in (("right", "=="), ("wrong", "!="), ("right", "==")):
        file.write_text(f"def grade(ground_truth, **_):\n    return float(ground_truth {sign} '4')\n")
        assert named(f"{file}:grade")("toy", "x", "4").status == wanted
    assert not (file.parent / "__pycache__").exists()


def test_one_that_is_awaited(tmp_path):
    (tmp_path / "later.py").write_text(
        "import asyncio\nasync def grade(data_source, solution_str, ground_truth, extra_info=None):\n"
        "    await asyncio.sleep(0)\n    return {'score': 1.0, 'extracted': extra_info['problem_id']}\n"
    )
    assert named(f"{tmp_path}/later.py:grade")("toy", "4", "4", {"problem_id": "p"}).extracted == "p"


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "grade", r"no scorer at .*mine\.py: give a Python file, or pkg://MODULE"),
        ("def other(): pass", "grade", r"mine\.py has no function 'grade'"),
        ("grade = 3", "grade", r"mine\.py has no function 'grade'"),
        ("import nowhere_to_be_found", "grade", "cannot be imported: ModuleNotFoundError: No module named 'nowhere"),
        ("import sys; sys.exit(3)", "grade", "cannot be imported: SystemExit: 3"),
        ("def grade(:", "grade", "cannot be imported: SyntaxError"),
    ],
)
def test_what_cannot_be_found(tmp_path, content, name, message):
    if content is not None:
        (tmp_path / "mine.py").write_text(content)
    with pytest.raises(ConfigError, match=message):
        named(f"{tmp_path}/mine.py:{name}")


def test_what_it_raises_is_said_with_the_response(tmp_path):
    (tmp_path / "mine.py").write_text("def compute_score(**_):\n    raise KeyError('gold')")
    said = r"compute_score in .*mine\.py raised KeyError: 'gold' for a response of data_source 'toy'"
    with pytest.raises(ConfigError, match=said):
        named(f"{tmp_path}/mine.py")("toy", "x = 4", "4")


def test_why_nothing_counts(file):
    boxes = OURS.why_nothing_counts(["no_answer"] * 96 + ["right"] * 4, "so it is 42\n#### 42")
    assert boxes == (
        "96 of 100 responses hold no answer that math_answer finds (it looks for \\boxed{}): "
        "one ends in 'so it is 42\\n#### 42'"
    )
    assert OURS.why_nothing_counts(["no_answer"] * 94 + ["right"] * 6, "x") is None
    assert OURS.why_nothing_counts(["wrong"] * 100, "x") is None
    assert OURS.why_nothing_counts(["no_answer"] * 19, "x") is None
    mine = RewardFunction(str(file), "grade").why_nothing_counts(["wrong"] * 20, "42.")
    assert mine is not None
    assert mine.endswith("finds none of 20 responses right: one ends in '42.'")
