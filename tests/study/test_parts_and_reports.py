"""What a part of a study needs, when a run is done, and which runs the reports are of."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fpa_verl.errors import ConfigError
from fpa_verl.runs.find import find_runs
from fpa_verl.study.ahead import Ahead
from fpa_verl.study.definition import Arm, Evaluation, Part, Preparation
from fpa_verl.study.ending import patterns, write_reports
from fpa_verl.study.jobs import Jobs
from fpa_verl.study.running import wanted_jobs, wanted_of
from fpa_verl.study.state import Diary, reached
from fpa_verl.study.status import status_table
from tests.runs.directories import make_run
from tests.study.test_jobs import jobs, keep_snapshot, small


def test_a_run_whose_models_were_not_evaluated_is_in_no_report_and_named(tmp_path):
    study = small(tmp_path, seeds=[0])
    for name, job in jobs(study).items():
        if job.kind == "run":
            make_run(job.folder, [1, 2], validation=[1, 2], command=job.words)
            keep_snapshot(job.folder, 1 if name.startswith("off") else 50)
    said = write_reports(study, Console(file=StringIO(), width=120))
    assert said == ["left out, for models that they kept were not evaluated: fpa, seed 0"]
    assert patterns(study, "", Jobs(study).all(), "wallclock") == [f"off={tmp_path}/off_seed[0-9]*"]


def test_where_the_arm_that_all_are_measured_by_is_missing_the_others_are_reported_all_the_same(tmp_path):
    study = small(tmp_path, seeds=[0], against="fpa")
    job = jobs(study)["off, seed 0"]
    make_run(job.folder, [1, 2], validation=[1, 2], command=job.words)
    (said,) = write_reports(study, Console(file=StringIO(), width=120))
    assert said == "no run of fpa, which the study measures the others by, is in the reports"
    assert (tmp_path / "report" / "wallclock.json").exists()


def test_the_plan_takes_no_benchmark_for_a_training(tmp_path):
    evaluation = Evaluation(snapshots=50, benchmarks=["math.parquet"])
    study = small(tmp_path, seeds=[0], evaluation=evaluation, minutes={"fpa": 100.0, "benchmarks": 3.0})
    ahead, found = Ahead(study, Diary(tmp_path / "study.json")), jobs(study)
    expected = {name: ahead.expected(job, list(found.values()))[0] for name, job in found.items()}
    assert expected["fpa, seed 0"] == 6_000
    assert [expected[name] for name, job in found.items() if job.kind == "benchmarks"] == [180, 180, 180]


def test_a_part_of_a_study_takes_nothing_that_only_others_need(tmp_path):
    """Neither the base model of a part without the arm, nor the candidates of an arm that chooses."""
    parts = {
        "a": Part(base_model="x", arms={"off": Arm("off_rl"), "fpa": Arm("fpa_offline", choose=["scale.lam=1,2"])}),
        "b": Part(base_model="y", arms={"fpa": Arm("fpa_offline")}),
    }
    study = small(tmp_path, arms={}, parts=parts, prepare=[Preparation("make it", [str(tmp_path / "file")])])
    names = [job.name for job in wanted_jobs(study, wanted_of(study, ["off"], [1]))]
    assert names == ["prepare", "a: collect", "a: base model", "a: off, seed 1", "a: snapshots"]
    with_choice = {job.name for job in wanted_jobs(study, wanted_of(study, ["fpa"], []))}
    assert {"a: fpa, lam=1", "a: snapshots of candidates", "b: fpa, seed 0", "b: snapshots"} <= with_choice
    everything = [job.name for job in Jobs(study).all()]
    assert [job.name for job in wanted_jobs(study, wanted_of(study, [], []))] == everything
    seeds = small(tmp_path, arms={"off": Arm("off_rl", seeds=[1]), "fpa": Arm("fpa_offline", seeds=[2])})
    with pytest.raises(ConfigError, match="none of these arms has that seed"):
        wanted_of(seeds, ["off"], [2])


def test_a_run_is_done_however_its_command_is_spelt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = jobs(small(Path("runs/x")))["off, seed 0"]
    make_run(job.folder, [1, 2], command=job.words)
    turned = ["task=demo", "model=tiny", "hardware=cpu"]
    for folder in (Path("runs/x"), tmp_path / "runs" / "x", Path("runs/./x")):
        assert jobs(small(folder, overrides=turned))["off, seed 0"].is_done
    assert not jobs(small(Path("runs/x"), overrides=[*turned, "scale.offline.lr=1"]))["off, seed 0"].is_done


def test_a_study_s_folder_has_its_seeds_and_not_what_it_chose_by(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    for name in ("fpa_seed0", "search/fpa,lam=1", "part/search/fpa,lam=2"):
        make_run(tmp_path / name, [1, 2])
    for where in (tmp_path, tmp_path / "*"):
        assert [run.folder.name for run in find_runs([where])] == ["fpa_seed0"]
    assert len(find_runs([tmp_path / "search"])) == 1
    assert len(find_runs([tmp_path / "search" / "*"])) == 1
    (tmp_path / "study.json").unlink()
    assert len(find_runs([tmp_path])) == 3


def test_a_run_that_was_evaluated_before_training_alone_shows_what_it_begins_at(tmp_path):
    study = small(tmp_path, seeds=[0])
    job = jobs(study)["off, seed 0"]
    make_run(job.folder, [1], validation=[1], command=job.words)
    assert reached(job) == "begins at 25.0 %"
    assert {row[0]: row[2] for row in status_table(study, 0.0).rows}["off, seed 0"] == ""
    make_run(jobs(study)["fpa, seed 0"].folder, [1, 2], validation=[1, 2])
    assert reached(jobs(study)["fpa, seed 0"]) == "validation 50.0 %"
