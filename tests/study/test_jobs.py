"""The commands of a study: which there are, what each waits for, and when it is done."""

from __future__ import annotations

import json
import math
import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fpa_verl.files import append_json_line, write_json
from fpa_verl.runs.inputs import MODEL_FILE
from fpa_verl.runs.record import record_evaluation
from fpa_verl.runs.snapshots import snapshot_folder
from fpa_verl.study.ahead import Ahead, plan_notes, plan_table
from fpa_verl.study.choosing import better_half, half_of, take, tried
from fpa_verl.study.definition import Arm, Candidate, Evaluation, HandedOver, Part, Preparation, Study
from fpa_verl.study.ending import patterns, write_choices, write_reports
from fpa_verl.study.jobs import Jobs, PartJobs
from fpa_verl.study.launching import Launcher
from fpa_verl.study.running import Runner, Wanted, wanted_jobs
from fpa_verl.study.state import Diary, Past, device_hours, phase_of
from fpa_verl.study.status import status_table
from tests.integration.running import composed
from tests.runs.directories import make_run, outcomes
from tests.runs.test_rounds import in_rounds


def small(folder, **changes):
    content = {
        "folder": str(folder),
        "overrides": ["hardware=cpu", "model=tiny", "task=demo"],
        "seeds": [0, 1],
        "arms": {"off": Arm("off_rl"), "fpa": Arm("fpa_offline", overrides=["scale.lam=3"])},
        "evaluation": Evaluation(snapshots=50, samples=2, base_samples=8),
    }
    return Study(**{**content, **changes})


def jobs(study):
    return {job.name: job for job in Jobs(study).all()}


def test_the_commands_in_the_order_in_which_they_can_run(tmp_path):
    found = jobs(small(tmp_path, prepare=[Preparation("make it", [str(tmp_path / "file")])]))
    runs = ["off, seed 0", "fpa, seed 0", "off, seed 1", "fpa, seed 1"]
    assert list(found) == ["prepare", "collect", "base model", *runs, "snapshots"]
    assert found["collect"].needs == ("prepare",)
    assert set(found["fpa, seed 0"].needs) == {"collect", "base model"}
    words = found["fpa, seed 1"].words
    assert f"run_dir={tmp_path}/fpa_seed1" in words
    assert "data.seed=1" in words
    assert "snapshots.every=50 trainer.test_freq=-1 scale.lam=3" in words
    # Nobody has kept a snapshot yet.
    assert found["snapshots"].command is None


def test_an_arm_goes_on_from_another_s_run_of_the_same_seed(tmp_path):
    then = Arm("grpo_baseline", start_from=HandedOver("fpa", 50))
    found = jobs(small(tmp_path, arms={"then": then, "fpa": Arm("fpa_offline")}))
    assert list(found)[2:-1] == ["fpa, seed 0", "then, seed 0", "fpa, seed 1", "then, seed 1"]
    job = found["then, seed 1"]
    assert "fpa, seed 1" in job.needs
    assert f"start_from={tmp_path}/fpa_seed1/snapshots/step_50" in job.words
    assert "evaluation.base" not in job.words
    config = composed(job.recipe, *job.command.overrides[1:])
    assert config.trainer.val_before_train is False
    assert config.start_from == f"{tmp_path}/fpa_seed1/snapshots/step_50"


def handed_over(folder, fpa, **changes):
    then = Arm("grpo_baseline", start_from=HandedOver("fpa", [50, 100]))
    return small(folder, arms={"then": then, "fpa": fpa}, seeds=[0], **changes)


def finish_candidate(job, step, right):
    make_run(job.folder, [1, right], validation=[1, right], command=job.words)
    keep_snapshot(job.folder, 1)
    assert job.is_done, step


def test_where_an_arm_takes_over_is_chosen_on_validation_problems_from_the_choosing_seed_s_run(tmp_path):
    study = handed_over(tmp_path, Arm("fpa_offline"))
    found = jobs(study)
    candidates = ["then, step=50", "then, step=100"]
    assert list(found)[2:] == [
        "fpa, to choose by",
        *candidates,
        "snapshots of candidates",
        "fpa, seed 0",
        "then, seed 0",
        "snapshots",
    ]
    first = found["fpa, to choose by"]
    assert (first.folder, first.is_candidate) == (tmp_path / "search" / "fpa", True)
    assert {"data.seed=1000", f"evaluation.base={tmp_path}/base"} <= set(first.command.overrides)
    for step, name in zip((50, 100), candidates, strict=True):
        assert "fpa, to choose by" in found[name].needs
        assert f"start_from={tmp_path}/search/fpa/snapshots/step_{step}" in found[name].words
        assert "data.seed=1000" in found[name].words
    assert composed(found[candidates[0]].recipe, *found[candidates[0]].command.overrides[1:]).data.seed == 1000
    # Open until both were evaluated, and then the same for all seeds.
    assert found["then, seed 0"].command is None
    assert {*candidates, "snapshots of candidates", "fpa, seed 0"} <= set(found["then, seed 0"].needs)
    finish_candidate(found[candidates[0]], 50, right=2)
    assert jobs(study)["then, seed 0"].command is None
    finish_candidate(found[candidates[1]], 100, right=3)
    assert f"start_from={tmp_path}/fpa_seed0/snapshots/step_100" in jobs(study)["then, seed 0"].words
    # No report takes a run that settings were chosen by for a seed.
    make_run(tmp_path / "fpa_seed0", [1, 2], command=jobs(study)["fpa, seed 0"].words)
    make_run(tmp_path / "search" / "fpa", [1, 2])
    assert patterns(study, "", Jobs(study).all(), "wallclock") == [f"fpa={tmp_path}/fpa_seed[0-9]*"]
    # It is part of what the search took, as a candidate is: all three are alike here.
    (table,) = PartJobs(study, "", study.all_parts()[""]).choices()
    each = float(table.rows[0][4])
    assert float(re.search(r"took ([\d.]+) device", table.caption)[1]) == pytest.approx(3 * each, abs=0.02)
    assert f"device-minutes in all, {each:.2f} of them for what its candidates went on from" in table.caption


def test_the_choosing_run_of_an_arm_whose_settings_are_chosen_is_one_of_its_candidates(tmp_path):
    study = handed_over(tmp_path, Arm("fpa_offline", choose=["scale.lam=1,2"]))
    found = jobs(study)
    assert "fpa, to choose by" not in found
    assert found["then, step=50"].command is None
    assert {"fpa, lam=1", "fpa, lam=2", "snapshots of candidates"} <= set(found["then, step=50"].needs)
    for lam in (1, 2):
        finish_candidate(found[f"fpa, lam={lam}"], 1, right=lam)
    job = jobs(study)["then, step=50"]
    assert f"start_from='{tmp_path}/search/fpa,lam=2/snapshots/step_50'" in job.command.overrides
    assert "fpa, lam=2" in job.needs


def test_the_choosing_run_is_the_seed_s_own_where_it_is_one_of_them(tmp_path):
    found = jobs(handed_over(tmp_path, Arm("fpa_offline"), choosing_seed=0))
    assert "fpa, to choose by" not in found
    assert "fpa, seed 0" in found["then, step=50"].needs
    assert f"start_from={tmp_path}/fpa_seed0/snapshots/step_50" in found["then, step=50"].words


def test_the_plan_and_the_status_know_what_is_chosen_from(tmp_path):
    study = handed_over(tmp_path, Arm("fpa_offline"))
    assert any("then 2, fpa 1" in note for note in plan_notes(study, Jobs(study).all()))
    rows = {row[0]: row for row in plan_table(study, Jobs(study).all(), Diary(tmp_path / "study.json")).rows}
    # Two candidates and a seed; the run to choose by and a seed.
    assert (rows["then"][1], rows["fpa"][1]) == ("3", "2")
    names = [row[0] for row in status_table(study, 0.0).rows]
    assert {"fpa, to choose by", "then, step=50", "then, step=100"} <= set(names)


def test_hydra_composes_the_evaluation_of_candidates(tmp_path):
    study = small(tmp_path, arms={"fpa": Arm("fpa_offline", choose=["scale.lam=1,2"])}, seeds=[0])
    for job in jobs(study).values():
        if job.kind == "candidate" or "search" in job.folder.parts:
            keep_snapshot(make_run(job.folder, [1]), 50)
    job = jobs(study)["snapshots of candidates"]
    runs = composed(job.recipe, *job.command.overrides[1:]).evaluation.runs
    assert [Path(run).name for run in runs] == ["fpa,lam=1", "fpa,lam=2"]


@pytest.mark.parametrize("name", ["collect", "base model", "off, seed 0", "fpa, seed 1"])
def test_hydra_composes_every_command(tmp_path, name):
    job = jobs(small(tmp_path))[name]
    config = composed(job.recipe, *job.command.overrides[1:])
    assert config.rollouts == f"{tmp_path}/rollouts"
    if job.kind == "run":
        assert config.evaluation.base == f"{tmp_path}/base"
        # No rollout engine of its own: neither before training nor on the way.
        assert (config.trainer.val_before_train, config.trainer.test_freq) == (False, -1)


def test_without_snapshots_a_run_validates_as_its_recipe_says(tmp_path):
    found = jobs(small(tmp_path, evaluation=Evaluation()))
    assert "snapshots" not in found
    assert "test_freq" not in found["off, seed 0"].words


def test_a_cache_that_arms_read_is_made_before_them(tmp_path):
    words = ["reference.source=topk", "reference.k=8", "scale.lam=1"]
    found = jobs(small(tmp_path, arms={"fpa": Arm("fpa_offline", overrides=words), "off": Arm("off_rl")}))
    assert "reference.source=topk reference.k=8" in found["cache_reference, topk"].words
    assert "scale.lam" not in found["cache_reference, topk"].words
    assert "cache_reference, topk" in found["fpa, seed 0"].needs
    assert "cache_reference, topk" not in found["off, seed 0"].needs
    assert found["cache_reference, topk"].folder == tmp_path / "rollouts" / "reference" / "topk"


def test_a_run_is_done_when_it_ended_as_it_is_asked_for_now(tmp_path):
    study = small(tmp_path)
    job = jobs(study)["off, seed 0"]
    make_run(job.folder, [1, 2], finished=False, command=job.words)
    assert not job.is_done
    append_json_line(job.folder / "ledger.jsonl", {"kind": "end", "time": 0, "attempt": 1, "step": 1, "seconds": {}})
    assert job.is_done
    # Other settings are another run, which the command itself refuses or goes on with.
    study.arms["off"].overrides.append("scale.offline.steps=400")
    assert not jobs(study)["off, seed 0"].is_done


def keep_snapshot(run_dir, step, attempt=1):
    write_json(snapshot_folder(run_dir, step) / MODEL_FILE, {"step": step, "attempt": attempt})


def evaluate(run_dir, step, right, attempt=1):
    problems = {"toy": outcomes(right), "toy/validation": outcomes(right)}
    record_evaluation(run_dir, attempt=attempt, step=step, problems=problems, trained=True)


def test_snapshots_are_done_when_all_that_there_are_were_evaluated(tmp_path):
    study = small(tmp_path, seeds=[0])
    for arm in ("off", "fpa"):
        folder = make_run(tmp_path / f"{arm}_seed0", [1])
        keep_snapshot(folder, 50)
    job = jobs(study)["snapshots"]
    assert f"evaluation.runs=[{tmp_path}/off_seed0,{tmp_path}/fpa_seed0]" in job.words
    evaluate(tmp_path / "off_seed0", 50, 3)
    assert not jobs(study)["snapshots"].is_done
    evaluate(tmp_path / "fpa_seed0", 50, 3)
    assert jobs(study)["snapshots"].is_done
    # The step was trained again: another model.
    keep_snapshot(tmp_path / "fpa_seed0", 50, attempt=2)
    assert not jobs(study)["snapshots"].is_done


def test_settings_are_chosen_by_the_best_model_of_each_candidate_on_validation_problems(tmp_path):
    study = small(tmp_path, arms={"fpa": Arm("fpa_offline", choose=["scale.lam=1,2"])}, seeds=[0])
    found = jobs(study)
    assert found["fpa, seed 0"].command is None
    assert {"fpa, lam=1", "fpa, lam=2", "snapshots of candidates"} <= set(found["fpa, seed 0"].needs)
    assert "data.seed=1000" in found["fpa, lam=1"].words
    for lam, right in ((1, [3, 2, 2]), (2, [3, 3, 1])):
        job = found[f"fpa, lam={lam}"]
        make_run(job.folder, [1, 1, 1], validation=right, command=job.words)
        keep_snapshot(job.folder, 1)
    # Lambda 2 was better before it got worse; what both began with is neither's.
    chosen = jobs(study)["fpa, seed 0"]
    assert "scale.lam=2" in chosen.words
    assert not any("snapshots of candidates" in name for name in chosen.needs)


def halved(folder, **changes):
    arms = {"fpa": Arm("fpa_offline", choose=["scale.lam=0,1,2,5,10"], halving=[25, 50])}
    return small(folder, arms=arms, seeds=[0], **changes)


def try_out(study, steps, right):
    """Candidates of a rung, by lambda, each with so many validation problems right."""
    found = jobs(study)
    for lam, count in right.items():
        job = found[f"fpa, lam={lam},steps={steps}"]
        assert f"trainer.total_training_steps={steps}" in job.words
        make_run(job.folder, [1, 1], validation=[0, count], command=job.words)
        keep_snapshot(job.folder, 1)


def test_the_better_half_goes_on_for_longer(tmp_path):
    """Five candidates, then three, of which one is taken: the best of the last rung, whatever the first said."""
    study = halved(tmp_path)
    assert [name for name in jobs(study) if "steps" in name] == [
        *(f"fpa, lam={lam},steps=25" for lam in (0, 1, 2, 5, 10)),
        *(f"fpa, place {place},steps=50" for place in (1, 2, 3)),
    ]
    assert {"fpa, lam=0,steps=25", "snapshots of candidates"} <= set(jobs(study)["fpa, place 3,steps=50"].needs)
    try_out(study, 25, {0: 1, 1: 4, 2: 2, 5: 3, 10: 0})
    assert [name for name in jobs(study) if "steps=50" in name] == [f"fpa, lam={lam},steps=50" for lam in (1, 2, 5)]
    assert jobs(study)["fpa, seed 0"].command is None
    try_out(study, 50, {1: 2, 2: 4, 5: 3})
    words = jobs(study)["fpa, seed 0"].words
    assert "scale.lam=2" in words
    assert "total_training_steps" not in words


def test_a_halved_candidate_is_a_command_that_hydra_composes(tmp_path):
    job = jobs(halved(tmp_path))["fpa, lam=5,steps=25"]
    config = composed(job.recipe, *job.command.overrides[1:])
    assert config.trainer.total_training_steps == 25
    assert config.run_dir == str(tmp_path / "search" / "fpa,lam=5,steps=25")


def test_what_was_chosen_and_what_the_search_took_is_printed_and_written(tmp_path):
    study = halved(tmp_path)
    try_out(study, 25, {0: 1, 1: 4, 2: 2, 5: 3, 10: 0})
    try_out(study, 50, {1: 2, 2: 4, 5: 3})
    console = Console(file=StringIO(), width=120)
    write_choices(study, console)
    # Each run trained for 900 and evaluated for 10,000 seconds on 2 devices.
    assert f"{8 * 2 * 10_900 / 60:.2f} device-minutes" in console.file.getvalue()
    lines = (tmp_path / "report" / "choosing.md").read_text().splitlines()
    assert [line for line in lines if "chosen |" in line] == ["| lam=2 | 1 | 1 | 100.0 | 363.33 | chosen |"]
    assert sum(line.startswith("| lam=") for line in lines) == 8


def candidate(folder, name, right):
    """One that got so many of 40 validation problems right, the first of them."""
    make_run(folder / name, [1, 1], validation=[0, 0])
    record_evaluation(folder / name, attempt=1, step=2, problems={"toy/validation": outcomes(right, 40)})
    return tried(Candidate((f"lr={name}",), words=f"lr={name}"), folder / name)


def test_of_candidates_that_chance_cannot_tell_apart_the_first_is_taken(tmp_path):
    """Of 40 problems 24 and 25: they differ in one, whose error is as large as the difference. 10 is another matter."""
    weak, gentle, strong = (candidate(tmp_path, name, right) for name, right in (("a", 10), ("b", 24), ("c", 25)))
    assert take([weak, gentle, strong]) is strong
    assert take([weak, gentle, strong], within=1.01) is gentle
    assert take([weak, strong, gentle], within=1.01) is strong
    assert take([weak, gentle, strong], within=0.5) is strong
    assert take([gentle, gentle]) is gentle


@given(st.lists(st.integers(0, 40), min_size=1, max_size=9))
def test_half_and_no_better_one_is_left_behind(right):
    of = [SimpleNamespace(accuracy=count) for count in right]
    kept = better_half(of)
    assert len(kept) == half_of(len(of)) == math.ceil(len(of) / 2)
    assert min(one.accuracy for one in kept) >= sorted(right)[-len(kept)]
    assert kept == [one for one in of if any(one is other for other in kept)]


def test_an_arm_in_rounds_is_a_run_whose_rounds_are_evaluated(tmp_path):
    arms = {"off": Arm("off_rl"), "anew": Arm("fpa_offline", overrides=["rounds=2"])}
    study = small(tmp_path, arms=arms, seeds=[0])
    job = jobs(study)["anew, seed 0"]
    run = in_rounds(job.folder, [1, 2], [2, 3], validation=([1, 2], [2, 3]), command=job.words)
    assert job.is_done
    assert not Jobs(small(tmp_path, seeds=[0])).all()[-2].is_done
    for number in (1, 2):
        keep_snapshot(run / f"round_{number}", 1)
    words = jobs(study)["snapshots"].words
    assert f"evaluation.runs=[{run}/round_1,{run}/round_2]" in words
    # Two steps of 900 s and a collection of 500 + 1,800 s, all on 2 devices; evaluations of 10,000 s after each step.
    assert device_hours([job]) == pytest.approx(2 * (2 * 900 + 2300 + 2 * 10_000) / 3600)
    assert patterns(study, "", Jobs(study).all(), "wallclock") == [f"anew={tmp_path}/anew_seed[0-9]*"]
    # More rounds are another command.
    study.arms["anew"].overrides = ["rounds=3"]
    assert not jobs(study)["anew, seed 0"].is_done


def test_parts_have_folders_overrides_and_jobs_of_their_own(tmp_path):
    parts = {
        "small": Part(overrides=["scale.lam=1"], base_model="m1", arms={"off": Arm("off_rl")}),
        "large": Part(base_model="m2", rollouts="shared/rollouts", arms={"off": Arm("off_rl", seeds=[7])}),
    }
    study = small(tmp_path, arms={}, parts=parts)
    found = jobs(study)
    assert [name for name in found if "off" in name] == [
        "small: off, seed 0",
        "small: off, seed 1",
        "large: off, seed 7",
    ]
    assert "actor_rollout_ref.model.path=m2" in found["large: off, seed 7"].words
    assert "rollouts=shared/rollouts" in found["large: collect"].words
    assert found["small: off, seed 0"].folder == tmp_path / "small" / "off_seed0"
    assert set(found["large: off, seed 7"].needs) == {"large: collect", "large: base model"}


def test_benchmarks_are_of_the_base_model_and_the_best_of_each_run(tmp_path):
    study = small(tmp_path, seeds=[0], evaluation=Evaluation(benchmarks=["a.parquet", "b.parquet"]))
    job = jobs(study)["off, seed 0"]
    found = jobs(study)["benchmarks, off, seed 0"]
    assert f"actor_rollout_ref.model.path={tmp_path}/off_seed0/best" in found.words
    assert "data.val_files=[a.parquet,b.parquet]" in found.words
    # Where nothing beat the base model, nothing else was kept.
    make_run(job.folder, [2, 1], command=job.words)
    assert "benchmarks, off, seed 0" not in jobs(study)
    assert "benchmarks, base model" in jobs(study)


def test_reports_read_the_runs_under_the_names_of_their_arms_and_no_candidate(tmp_path):
    study = small(tmp_path, arms={"strong": Arm("fpa_offline", choose=["scale.lam=1,2"]), "off": Arm("off_rl")})
    for name, right in (("lam=1", 2), ("lam=2", 1)):
        finish_candidate(jobs(study)[f"strong, {name}"], 1, right)
    make_run(tmp_path / "strong_seed0", [1, 2], command=jobs(study)["strong, seed 0"].words)
    found = patterns(study, "", Jobs(study).all(), "wallclock")
    assert found == [f"strong={tmp_path}/strong_seed[0-9]*"]
    # Statements are about recipes.
    assert patterns(study, "", Jobs(study).all(), "claims") == [f"{tmp_path}/strong_seed[0-9]*"]


def test_a_part_of_a_study_brings_what_it_goes_on_from_and_nothing_else(tmp_path):
    study = handed_over(tmp_path, Arm("fpa_offline"))
    study.arms |= {"then": Arm("grpo_baseline", start_from=HandedOver("fpa", 50)), "off": Arm("off_rl")}
    study.evaluation.benchmarks = ["math500.parquet"]
    names = [job.name for job in wanted_jobs(study, Wanted(arms=("then",), seeds=(0,)))]
    assert names == [
        *("collect", "base model", "fpa, seed 0", "then, seed 0", "snapshots"),
        *("benchmarks, base model", "benchmarks, then, seed 0"),
    ]


def test_a_dataset_that_was_made_by_another_command_is_looked_at_again(tmp_path):
    study = small(tmp_path)
    job = jobs(study)["collect"]
    write_json(job.folder / "manifest.json", {})
    runner = Runner(study, Console(file=StringIO()))
    runner.diary = Diary(tmp_path / "study.json")
    # One that was there, or of before the words were written down.
    assert runner._is_done(job)
    runner.diary.jobs["collect"] = Past(0.0, 1.0, words=job.words)
    assert runner._is_done(job)
    study.collect = ["actor_rollout_ref.rollout.n=64"]
    assert not runner._is_done(jobs(study)["collect"])
    # What the command itself refused is asked again the next time.
    runner.diary.jobs["collect"] = Past(0.0, 1.0, "holds another dataset", words=jobs(study)["collect"].words)
    assert not runner._is_done(jobs(study)["collect"])


def test_values_that_are_paths_make_no_folders_within_folders(tmp_path):
    study = small(tmp_path, arms={"off": Arm("off_rl", choose=["reference.model=a/b,a/c"])})
    found = [job for job in jobs(study).values() if job.is_candidate and job.kind == "run"]
    assert [job.folder.parent for job in found] == [tmp_path / "search"] * 2
    # Where the study's folder lies says nothing of them.
    study = small(tmp_path / "search", arms={"off": Arm("off_rl")})
    assert not any(job.is_candidate for job in jobs(study).values())


def test_reports_read_no_run_that_the_study_does_not_have_or_that_is_not_at_its_end(tmp_path):
    study = small(tmp_path, arms={"off": Arm("off_rl"), "off_seed1": Arm("off_rl")})
    make_run(tmp_path / "off_seed0", [1, 2], command=jobs(study)["off, seed 0"].words)
    make_run(tmp_path / "off_seed1_seed0", [1, 2], command=jobs(study)["off_seed1, seed 0"].words)
    make_run(tmp_path / "off_seed7", [1, 2])
    found = patterns(study, "", Jobs(study).all(), "wallclock")
    # The pattern of the first would mean three runs more.
    assert found == [f"off={tmp_path}/off_seed0", f"off_seed1={tmp_path}/off_seed1_seed[0-9]*"]
    # Another learning rate: what is there is not what the study has now.
    study.arms["off"].overrides = ["scale.offline.lr=1e-4"]
    assert patterns(study, "", Jobs(study).all(), "wallclock") == [f"off_seed1={tmp_path}/off_seed1_seed[0-9]*"]
    left_out, *_ = write_reports(study, Console(file=StringIO()))
    assert left_out == "left out, for they have not come to their end: off, seed 0"


def test_the_plan_goes_by_what_was_measured_here_and_else_by_the_file(tmp_path):
    study = small(tmp_path, minutes={"collect": 1.0, "off_rl": 2.0, "fpa_offline": 3.0, "base": 1.0, "snapshots": 4.0})
    table = plan_table(study, Jobs(study).all(), Diary(tmp_path / "study.json"))
    assert [row[3:] for row in table.rows[:-1]] == [
        ["~1.0", "~1.0"],
        ["~1.0", "~1.0"],
        ["~2.0", "~4.0"],
        ["~3.0", "~6.0"],
        ["~4.0", "~4.0"],
    ]
    assert table.rows[-1] == ["all", "7", "0", "", "~16.0"]
    job = jobs(study)["off, seed 0"]
    make_run(job.folder, [1, 2], command=job.words)
    diary = Diary(tmp_path / "study.json", jobs={job.name: Past(0.0, 30.0)})
    row = plan_table(study, Jobs(study).all(), diary).rows[2]
    assert row == ["off", "2", "1", "0.5", "0.5"]


def test_what_a_part_took_says_nothing_of_another_model_s(tmp_path):
    part = {"arms": {"off": Arm("off_rl")}}
    study = small(tmp_path, arms={}, parts={"small": Part(**part), "large": Part(**part, minutes_times=2.0)})
    study.minutes = {"off_rl": 3.0}
    every = Jobs(study).all()
    found = {job.name: job for job in every}
    ahead = Ahead(study, Diary(tmp_path / "study.json", jobs={"small: off, seed 0": Past(0.0, 30.0)}))
    assert ahead.expected(found["small: off, seed 1"], every) == (30.0, True)
    assert ahead.expected(found["large: off, seed 0"], every) == (360.0, False)


def test_a_rung_is_not_taken_to_last_as_long_as_a_whole_run(tmp_path):
    study = halved(tmp_path, minutes={"fpa_offline": 3.0})
    every = Jobs(study).all()
    found, rung = {job.name: job for job in every}, "fpa, lam=0,steps=25"
    ahead = Ahead(study, Diary(tmp_path / "study.json", jobs={rung: Past(0.0, 30.0)}))
    assert ahead.expected(found["fpa, lam=1,steps=25"], every) == (30.0, True)
    assert ahead.expected(found["fpa, seed 0"], every) == (180.0, False)


def test_what_nobody_knows_is_said_to_be_unknown(tmp_path):
    study = small(tmp_path)
    table = plan_table(study, Jobs(study).all(), Diary(tmp_path / "study.json"))
    assert table.rows[-1][-1] == "more than 0.0"
    assert {row[3] for row in table.rows[:-1]} == {"?"}


def test_unequal_searches_are_named(tmp_path):
    arms = {"fpa": Arm("fpa_offline", choose=["scale.lam=1,2"]), "off": Arm("off_rl")}
    study = small(tmp_path, arms=arms)
    assert any("fpa 2, off 1" in note for note in plan_notes(study, Jobs(study).all()))


def test_what_a_dead_process_left_is_no_running_job(tmp_path):
    job = jobs(small(tmp_path))["off, seed 0"]
    diary = Diary(tmp_path / "study.json", pid=1, created=0.0, jobs={job.name: Past(0.0)})
    assert phase_of(job, diary) == "waiting"
    diary.jobs[job.name] = Past(0.0, 3.0, "it broke")
    diary.write()
    assert phase_of(job, Diary.read(tmp_path)) == "failed"
    diary.begin()
    diary.jobs[job.name] = Past(0.0)
    assert phase_of(job, diary) == "running"
    # Killed, and begun again with something else.
    diary.begin()
    assert phase_of(job, diary) == "failed"
    make_run(job.folder, [1, 2], command=job.words)
    assert phase_of(job, diary) == "done"


def test_a_launcher_is_handed_the_runs_as_they_are(tmp_path):
    found = jobs(small(tmp_path))
    runs = [found["off, seed 0"], found["fpa, seed 1"]]
    words = Launcher("submitit_slurm", ("hydra.launcher.partition=gpu",)).command(tmp_path, runs)
    assert words[1:4] == ["-m", "verl.trainer.main", "--multirun"]
    assert {"hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra/sweeper=fpa_verl_study"} <= set(
        words
    )
    assert json.loads((tmp_path / "launched.json").read_text()) == [list(job.command.overrides) for job in runs]
