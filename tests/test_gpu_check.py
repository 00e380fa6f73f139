"""benchmarks/gpu_check.py at toy size: what it would say on a GPU is right on a CPU, speed apart."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import gpu_check  # noqa: E402
from gpu_check import GOALS, Goal, judged, speed  # noqa: E402
from gpu_parts import Found, NotRunError, Size  # noqa: E402

TOY = Size.toy()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The command as a user types it, from another folder: the finished process and its JSON."""
    folder = tmp_path_factory.mktemp("gpu_check")
    command = [sys.executable, str(BENCHMARKS / "gpu_check.py"), "--toy", "--json", "check.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    return done, json.loads((folder / "check.json").read_text())


@pytest.mark.patient
def test_every_line_is_there(whole):
    done, found = whole
    names = [name for goals in GOALS.values() for name in goals] + ["minutes"]
    assert [line["name"] for line in found["lines"]] == names
    assert [name for line in done.stdout.splitlines() if (name := line.split(":")[0]) in names] == names


@pytest.mark.patient
def test_what_is_to_be_right_is_right_on_a_cpu(whole):
    done, found = whole
    assert done.returncode == 0, done.stderr[-2000:]
    goals = {name: goal for part in GOALS.values() for name, goal in part.items()}
    for line in found["lines"][:-1]:
        name, goal = line["name"], goals[line["name"]]
        if "flash" in name or "peak" in name or "memory" in name:
            assert line["verdict"] == "not run"
            assert line["why"] in done.stdout
        elif goal.bound is None:
            assert line["verdict"] == "told"
        else:
            assert line["verdict"] == ("met" if goal.held == "anywhere" else "not held"), line


@pytest.mark.patient
def test_a_missed_goal_gives_status_1(monkeypatch, capsys):
    monkeypatch.setitem(GOALS["topk"], "topk_log_w_error_over_stated", Goal(1e-9))
    with pytest.raises(SystemExit) as end:
        gpu_check.main(["--toy", "--only", "topk"])
    assert end.value.code == 1
    out = capsys.readouterr().out
    assert "(goal <= 1e-09) MISSED" in out
    assert "1 missed, 0 failed" in out
    # Without --json it comes last.
    assert len(json.loads(out.splitlines()[-1])["lines"]) == len(GOALS["topk"]) + 1


@pytest.mark.patient
def test_a_part_that_breaks_gives_status_1_and_its_reason(monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "size_for", lambda _: replace(TOY, vocabulary=10))
    with pytest.raises(SystemExit) as end:
        gpu_check.main(["--only", "topk"])
    assert end.value.code == 1
    assert "failed: topk_log_w_error_99_percent and 3 more: ValueError: k must be" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "goal", "size", "verdict"),
    [
        (1.0, Goal(1), TOY, "met"),
        (1.1, Goal(1), TOY, "missed"),
        (math.nan, Goal(1), TOY, "missed"),
        (0.9, Goal(1, at_least=True), TOY, "missed"),
        (9.0, Goal(), TOY, "told"),
        (9.0, speed(1), TOY, "not held"),
        (9.0, speed(1), replace(TOY, device="cuda", layers=20), "not held"),
        (9.0, speed(1), replace(TOY, device="cuda", layers=36), "missed"),
        (9.0, Goal(1, held="on a GPU"), replace(TOY, device="cuda", layers=20), "missed"),
        (None, Goal(1), TOY, "failed"),
    ],
)
def test_verdicts(value, goal, size, verdict):
    values = {} if value is None else {"x": value}
    assert judged("x", goal, Found(values=values), size)["verdict"] == verdict


def test_what_cannot_run_is_no_pass(monkeypatch, tmp_path):
    def without(size, found):
        found.values["x"] = 0.0
        raise NotRunError("no verl")

    monkeypatch.setitem(gpu_check.PARTS, "engine", without)
    gpu_check.run_child(["engine"], TOY, tmp_path)
    line = judged("x", Goal(1), Found(**json.loads((tmp_path / "engine.json").read_text())), TOY)
    assert (line["verdict"], line["why"], line["value"]) == ("not run", "no verl", None)


def test_a_process_that_dies_is_no_pass(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "false")
    results = gpu_check.run_parts(["topk", "step"], TOY, tmp_path)
    assert [found.facts["failed"] for found in results.values()] == ["status 1: nothing said"] * 2


def test_a_gpu_that_torch_cannot_use_is_no_reason_for_toy_size(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "DRIVER", tmp_path)
    monkeypatch.setattr(gpu_check.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="a GPU is here, and torch"):
        gpu_check.main(["--only", "topk"])


@pytest.mark.parametrize(
    ("gigabytes", "layers", "tokens"), [(150, 36, 16_384), (85, 23, 16_384), (25, 4, 4_096), (8, 1, 4_096)]
)
def test_little_memory_makes_fewer_layers(gigabytes, layers, tokens):
    size = Size.of_gpu(gigabytes * 10**9)
    assert (size.layers, size.tokens) == (layers, tokens)


def test_a_json_that_cannot_be_written_is_refused_before_anything_runs(tmp_path, capsys):
    for file in (tmp_path / "nowhere" / "x.json", tmp_path):
        with pytest.raises(SystemExit) as end:
            gpu_check.main(["--toy", "--json", str(file)])
        assert end.value.code == 2
        assert "no file can be written there" in capsys.readouterr().err


def test_a_python_without_torch_is_named():
    script = f"import runpy, sys; sys.modules['torch'] = None; sys.path.insert(0, {str(BENCHMARKS)!r}); "
    script += f"runpy.run_path({str(BENCHMARKS / 'gpu_check.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"torch is not installed in {sys.executable}: name a Python that has torch")
    assert done.stderr.count("\n") == 1
