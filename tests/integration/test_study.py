"""A study with real commands: killed, repeated, one arm broken; one measurement of the base model, one engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from fpa_verl.files import read_json_lines
from fpa_verl.runs.run import read_run
from fpa_verl.runs.snapshots import not_evaluated, snapshots_of
from fpa_verl.study.state import Diary
from tests.integration.running import DEMO, metrics

pytestmark = [pytest.mark.engine, pytest.mark.patient]

STUDY = """
folder: {folder}/study
overrides: [{demo}, data.train_batch_size=16]
base_model: {model}
rollouts: {folder}/rollouts
problems: {{train: "{folder}/problems.parquet", test: "{folder}/problems.parquet"}}
seeds: [5]
arms:
  fpa: {{recipe: fpa_offline, overrides: [scale.offline.steps=3]}}
  broken: {{recipe: off_rl, overrides: [scale.offline.lr=-1]}}
  online:
    recipe: grpo_baseline
    overrides: [data.train_batch_size=4, scale.online.mini_batch=4, scale.rollouts_per_problem=2, scale.online.steps=1]
evaluation: {{snapshots: 2, samples: 1, base_samples: 2}}
"""


@pytest.fixture(scope="module")
def file(workspace, base_model):
    text = STUDY.format(folder=workspace, model=base_model, demo=", ".join(DEMO))
    (workspace / "study.yaml").write_text(text)
    return workspace / "study.yaml"


def command(file, *options):
    return [sys.executable, "-c", "from fpa_verl.cli import main; main()", "study", str(file), *options]


def study(file, *options):
    return subprocess.run(
        command(file, *options), cwd=file.parent, env=os.environ, capture_output=True, text=True, timeout=1500
    )


def kill_while_it_trains(file):
    """Kill the study, and all that it has started, in the middle of a run."""
    process = subprocess.Popen(command(file), cwd=file.parent, stdout=subprocess.DEVNULL, start_new_session=True)
    ledger = file.parent / "study" / "fpa_seed5" / "ledger.jsonl"
    deadline = time.monotonic() + 600
    while process.poll() is None and not ledger.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ledger.exists()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def done(file):
    kill_while_it_trains(file)
    assert "waiting" in study(file, "--status").stdout
    return study(file)


def test_a_study_that_was_killed_goes_on_and_ends_with_its_report(done, file):
    folder = file.parent / "study"
    # The base model had been measured before.
    assert "] base model" not in done.stdout, done.stdout + done.stderr
    assert "fpa, seed 5" in done.stdout
    assert json.loads((folder / "report" / "wallclock.json").read_text())["compare"] == "wallclock"
    assert (folder / "report" / "report.html").exists()


def test_an_arm_that_fails_stops_no_other_and_is_named(done, file):
    assert done.returncode == 1
    assert "failed: broken, seed 5" in done.stdout
    assert "optim.lr=-1" in done.stdout
    assert Diary.read(file.parent / "study").jobs["online, seed 5"].error == ""


@pytest.mark.parametrize(("arm", "steps"), [("fpa", [2, 3]), ("online", [1])])
def test_snapshots_are_evaluated_into_their_run_and_the_base_model_is_measured_once(done, file, arm, steps):
    folder = file.parent / "study" / f"{arm}_seed5"
    assert [snapshot.step for snapshot in snapshots_of(folder)] == steps
    assert not not_evaluated(folder)
    run = read_run(folder)
    (source,) = {point.data_source for point in run.points if "validation" not in point.data_source}
    points = run.of_source(source)
    assert [point.step for point in points] == [0, *steps]
    # Two answers of the base model, one of each snapshot.
    assert [sum(sampled for _, sampled in point.problems.values()) for point in points] == [32, *[16] * len(steps)]
    assert points[0].measured_in == str(file.parent / "study" / "base")
    assert all(point.cost.device_seconds > 0 for point in points[1:])
    # Nothing was evaluated while it trained; what keeping the models took is no cost.
    seconds = [record.get("seconds", {}) for record in read_json_lines(folder / "ledger.jsonl")]
    assert any(one.get("evaluation") for one in seconds)
    assert (folder / "samples" / f"attempt_{snapshots_of(folder)[0].attempt}" / f"step_{steps[0]}").is_dir()


def test_a_run_that_was_killed_before_its_first_step_is_made_again_whole(done, file):
    attempts = [
        r for r in read_json_lines(file.parent / "study" / "fpa_seed5" / "ledger.jsonl") if r["kind"] == "attempt"
    ]
    assert len(attempts) == 2


def test_a_study_of_the_same_dataset_that_was_never_killed_ends_with_the_same_table(done, file):
    folder, twin = file.parent / "study", file.parent / "twin.yaml"
    content = yaml.safe_load(file.read_text())
    arms = {"fpa": content["arms"]["fpa"]}
    twin.write_text(yaml.safe_dump({**content, "folder": str(file.parent / "twin"), "arms": arms}))
    ended = study(twin)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "] collect" not in ended.stdout
    curves = []
    for one in (folder, file.parent / "twin"):
        methods = json.loads((one / "report" / "wallclock.json").read_text())["methods"]
        (curve,) = [method["curve"] for method in methods if method["method"] == "fpa"]
        curves.append([(point["step"], point["accuracy"]) for point in curve])
    assert curves[0] == curves[1]
    killed, whole = (metrics(folder / "fpa_seed5", 2), metrics(file.parent / "twin" / "fpa_seed5", 1))
    for step in (1, 2, 3):
        for name in ("actor/pg_loss", "actor/grad_norm"):
            assert killed[step][name] == pytest.approx(whole[step][name], rel=1e-5), (step, name)


def test_repeated_it_does_only_what_is_missing(done, file):
    again = study(file)
    assert again.returncode == 1
    assert "broken, seed 5" in again.stdout
    for name in ("fpa, seed 5", "online, seed 5", "base model", "snapshots"):
        assert f"{name}  " not in again.stdout


def test_its_status_names_every_command(done, file):
    shown = study(file, "--status").stdout
    assert "does not run" in " ".join(shown.split())
    for name, state in (("collect", "done"), ("fpa, seed 5", "done"), ("broken, seed 5", "failed")):
        assert any(name in line and state in line for line in shown.splitlines()), shown
