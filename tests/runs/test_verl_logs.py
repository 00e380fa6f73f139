"""Runs of verl without the plugin, from logs that verl's own loggers write.

A step of `STEPS` takes 900 s on 2 devices, 0.5 device-hours, as one of `make_run` does:

    gen 400 + old_log_prob 100 + ref 50 + update_actor 200 + update_weights 50 + save_checkpoint 20 = 820, other 80

and validation takes another 100 s behind it. Its batch has 18,000 tokens, 30 of a mean trajectory's 40 generated.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.report.comparisons import cost, lambdas, objectives, wallclock
from fpa_verl.report.watch import watch
from fpa_verl.runs import verl_logs
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.run import UNKNOWN_DEVICE
from tests.runs.directories import make_run

TRAINING_STEP = {
    "timing_s/gen": 400.0,
    "timing_s/old_log_prob": 100.0,
    "timing_s/ref": 50.0,
    "timing_s/update_actor": 200.0,
    "timing_s/update_weights": 50.0,
    "timing_s/save_checkpoint": 20.0,
    "timing_s/step": 900.0,
    "timing_s/testing": 100.0,
    "perf/time_per_step": 900.0,
    "perf/total_num_tokens": 18_000,
    # Tokens a device and second: 18,000 / (900 * 2).
    "perf/throughput": 10.0,
    "actor/perf/max_memory_allocated_gb": 1.5,
    "actor/grad_norm": 0.25,
    "prompt_length/mean": 10.0,
    "response_length/mean": 30.0,
    # What reports do not read, and what is no number.
    "critic/score/mean": 0.5,
    "actor/entropy": float("nan"),
}


def accuracy(value, variable="acc", source="toy"):
    aux = {f"val-aux/{source}/{variable}/std@2": 0.1, f"val-core/{source}/{variable}/best@2/mean": 0.99}
    return {f"val-core/{source}/{variable}/mean@2": value, **aux}


# Before training 0.2, after the first step 0.4, after the second 0.9.
STEPS = {0: accuracy(0.2), 1: {**TRAINING_STEP, **accuracy(0.4)}, 2: {**TRAINING_STEP, **accuracy(0.9)}}


def write_log(backend, folder, steps=STEPS, *, name="exp", seconds_a_step=1000.0):
    """Log through verl's own class, with so many seconds a step on the clock that the loggers see."""
    tracking = pytest.importorskip("verl.utils.tracking")
    module = None if backend == "file" else pytest.importorskip(backend)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "VERL_FILE_LOGGER_ROOT": str(folder),
        "TENSORBOARD_DIR": str(folder / name),
        "WANDB_DIR": str(folder),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in settings.items():
            patch.setenv(variable, value)
        logger = tracking.Tracking("project", name, default_backend=[backend], config={"trainer": {}})
        began = time.time()
        for step, metrics in steps.items():
            patch.setattr(time, "time", lambda now=began + seconds_a_step * step: now)
            logger.log(data=metrics, step=step)
        logger.finish()
    if backend == "wandb":
        # Its settings are those of the process, unless it is told to forget them.
        module.teardown()
    (log,) = verl_logs.find_logs(folder / "project" / f"{name}.jsonl" if backend == "file" else folder)
    return log


@pytest.fixture(params=["file", "tensorboard", "wandb"])
def log(request, tmp_path):
    """The same run, logged by each of verl's loggers."""
    return write_log(request.param, tmp_path / "logs")


def test_every_logger_tells_the_same(log):
    (run,) = find_runs([log])
    # 2 devices, 2 steps.
    assert run.spending.devices == [2]
    assert run.phase_device_seconds == pytest.approx(
        {
            "generation": 2 * 2 * 400,
            "log_probs": 2 * 2 * 150,
            "training": 2 * 2 * 200,
            "weight_sync": 2 * 2 * 50,
            "checkpointing": 2 * 2 * 20,
            "evaluation": 2 * 2 * 100,
            "idle": 2 * 2 * 80,
        }
    )
    # Exactly what was logged, though event files hold single precision: 0.4 reaches 0.4.
    points = run.of_source("toy")
    assert [(point.step, point.accuracy) for point in points] == [(0, 0.2), (1, 0.4), (2, 0.9)]
    assert [point.device_seconds for point in points] == pytest.approx([0, 2 * 900, 2 * 2 * 900])
    assert all(np.isnan(point.standard_error) for point in points)
    assert (run.finished, run.unscored, run.missing_steps) == (True, 0, [])
    assert run.metrics["actor/grad_norm"] == {1: 0.25, 2: 0.25}


def test_tokens_rates_and_memory(log):
    (found,) = cost.compare(find_runs([log])).costs
    # 30 / 40 of 2 * 18,000 tokens in 2 * 2 * 400 device-seconds; all of them in 2 * 2 * 200.
    assert (found.generated_tokens, found.trained_tokens, found.peak_memory_gb) == (27_000, 36_000, 1.5)
    assert found.generation_rate == pytest.approx(27_000 / 1600)
    assert found.training_rate == pytest.approx(36_000 / 800)


@pytest.mark.parametrize(("backend", "other"), [("file", 80), ("tensorboard", 87), ("wandb", 87)])
def test_a_clock_tells_what_lies_between_steps(tmp_path, backend, other):
    """7 s a step go into metrics and logging: the file logger, which writes no time, cannot know."""
    log = write_log(backend, tmp_path, seconds_a_step=1007.0)
    (run,) = find_runs([log])
    assert run.spending.wall_seconds["idle"] == pytest.approx(2 * other)


def test_a_log_stands_beside_a_run_directory(tmp_path, log):
    make_run(tmp_path / "fpa", [1, 2, 4])
    comparison = wallclock.compare(find_runs([tmp_path / "fpa", f"grpo={log}"], "H"), targets=[0.4, 0.5, 0.95])
    # Both pay 0.5 device-hours a step. fpa has 0.25, 0.5, 1.0; grpo 0.2, 0.4, 0.9.
    assert [curve.name for curve in comparison.methods] == ["fpa_offline", "grpo"]
    hours = {(time.method, time.target): time.hours["device"].value for time in comparison.times}
    assert hours == pytest.approx(
        {
            ("fpa_offline", 0.4): 0.5,
            ("grpo", 0.4): 0.5,
            ("fpa_offline", 0.5): 0.5,
            ("grpo", 0.5): 1.0,
            ("fpa_offline", 0.95): 1.0,
            ("grpo", 0.95): np.inf,
        }
    )
    (half,) = (time for time in comparison.times if (time.method, time.target) == ("grpo", 0.5))
    # fpa generates its own here, and so is what the other is measured by: 0.5 / 1.
    assert half.ratio.value == pytest.approx(0.5)
    assert f"read from verl's log {log}" in comparison.notes()[0]


def test_no_interval_is_made_up(tmp_path):
    log = write_log("file", tmp_path / "logs")
    make_run(tmp_path / "fpa", [1, 2, 4])
    comparison = wallclock.compare(find_runs([tmp_path / "fpa", f"grpo={log}"], "H"), targets=[0.5])
    fpa, grpo = comparison.times
    assert np.isfinite(fpa.hours["device"].share)
    told = [grpo.hours["device"], grpo.hours["wall"], grpo.ratio, grpo.wall_ratio]
    assert all(np.isnan([one.low, one.high, one.share]).all() for one in told)
    assert np.isnan(comparison.band(1)).all()
    assert not np.isnan(comparison.band(0)).any()
    methods, targets, ratios, runs = comparison.tables()
    assert methods.rows[1] == ["grpo", "1", "90.0", "?", "1.00", "0.50", "0.00", "?"]
    assert methods.caption.endswith("?: not recorded")
    assert targets.rows[1] == ["grpo", "50", "1.00", "?", "?", "0.50"]
    assert ratios.rows[0] == ["grpo", "50", "0.50", "?", "?", "0.50", "?"]
    assert runs.rows[1] == ["exp (file)", "20.0", "90.0 ± ?", "90.0", "1.00", "1.00"]
    content = comparison.as_json()["methods"][1]["targets"][0]
    assert content["device_hours"] == {"value": 1.0, "low": None, "high": None, "share": None}
    assert comparison.as_json()["runs"][1]["device_seconds"]["startup"] is None


def test_the_interval_of_a_run_directory_is_what_it_was(tmp_path):
    """A log beside it takes nothing from the problems that replicates draw."""
    make_run(tmp_path / "fpa", [1, 2, 4])
    alone = wallclock.compare(find_runs([tmp_path / "fpa"]), targets=[0.5])
    log = write_log("file", tmp_path / "logs")
    beside = wallclock.compare(find_runs([tmp_path / "fpa", log], "H"), targets=[0.5])
    assert beside.times[0].hours == alone.times[0].hours


def test_break_even_against_a_log(tmp_path):
    dataset = {"fingerprint": "d", "device_seconds": 3600.0, "cost": {"device": "H", "devices": 1}}
    make_run(tmp_path / "fpa", [1, 2, 4], dataset=dataset)
    log = write_log("file", tmp_path / "logs")
    comparison = wallclock.compare(find_runs([tmp_path / "fpa", f"grpo={log}"], "H"), targets=[0.5])
    # D = 1, t = 0.5, T_0 = 1: the least N is 1 / 0.5 = 2.
    fpa = comparison.times[0]
    assert comparison.against.name == "grpo"
    assert (fpa.break_even.value, comparison.tables()[3].rows[0][-1]) == (2.0, "?")


def test_logs_are_methods_of_their_own_unless_named_together(tmp_path):
    logs = [write_log("file", tmp_path / place) for place in ("a", "b")]
    assert [len(curve.runs) for curve in wallclock.compare(find_runs(logs, "H")).methods] == [1, 1]
    together = wallclock.compare(find_runs([f"grpo={tmp_path}/*/project/*.jsonl"], "H"))
    assert [(curve.name, len(curve.runs)) for curve in together.methods] == [("grpo", 2)]
    # The mean over seeds stands, and has no interval either.
    assert together.methods[0].mean_accuracy().tolist() == [0.2, 0.4, 0.9]
    assert np.isnan(together.band(0)).all()


def test_what_a_log_does_not_say_is_said(tmp_path):
    log = write_log("file", tmp_path / "logs")
    (note,) = wallclock.compare(find_runs([log])).notes()
    assert note.startswith(f"exp (file): read from verl's log {log}: no outcomes of single problems, so no interval")
    assert "base model, scorer and problems are not recorded and were not compared" in note


def test_the_device_must_be_known_to_compare(tmp_path):
    make_run(tmp_path / "fpa", [1, 2, 4])
    log = write_log("file", tmp_path / "logs")
    (alone,) = find_runs([log])
    assert alone.info["hardware"] == {"devices": 2, "device": UNKNOWN_DEVICE}
    with pytest.raises(DatasetError, match=r"exp.jsonl does not say on which device it ran.*give --device"):
        wallclock.compare(find_runs([tmp_path / "fpa", log]))
    with pytest.raises(MismatchError, match="their kind of device differs"):
        wallclock.compare(find_runs([tmp_path / "fpa", log], "A100"))


def test_wandb_writes_down_the_gpu(tmp_path):
    """As its record has it on a machine with two; this one has none."""
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    log = write_log("wandb", tmp_path)
    (run,) = find_runs([log], "given")
    assert run.info["hardware"]["device"] == "given"
    environment = pb.Record(environment=pb.EnvironmentRecord(gpu_type="NVIDIA H200", gpu_count=2)).SerializeToString()
    head = len(environment).to_bytes(2, "little") + b"\x01"
    content = log.read_bytes()
    log.write_bytes(content[:7] + bytes(4) + head + environment)
    assert verl_logs.read_log(log).device == "NVIDIA H200"


def test_records_of_wandb_across_blocks(tmp_path):
    """400 metrics a step are more than LevelDB's block of 32 KiB holds."""
    many = {f"perf/{'long_name_' * 8}{i}": float(i) for i in range(400)}
    log = write_log("wandb", tmp_path, dict.fromkeys(range(4), many))
    records = verl_logs.read_log(log).records
    assert [record.step for record in records] == [0, 1, 2, 3]
    assert all(record.metrics == many for record in records)
    # Killed while it wrote: what is whole counts.
    log.write_bytes(log.read_bytes()[:100_000])
    assert 0 < len(verl_logs.read_log(log).records) < 4


def test_an_empty_log_of_wandb(tmp_path):
    pytest.importorskip("wandb")
    (tmp_path / "run-a.wandb").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"run-a\.wandb is no log of wandb, or nothing was written to it"):
        find_runs([tmp_path])


def test_event_files_of_a_resumed_run_are_attempts(tmp_path):
    pytest.importorskip("tensorboard")
    write_log("tensorboard", tmp_path, {step: STEPS[step] for step in (0, 1)})
    # The second attempt does step 1 again, evaluates it worse, and goes on.
    again = {1: {**STEPS[1], **accuracy(0.3)}, 2: STEPS[2]}
    log = write_log("tensorboard", tmp_path, again)
    (run,) = find_runs([log])
    assert run.spending.devices == [2, 2]
    # Step 1 was paid twice; the first measurement of it stands.
    points = run.of_source("toy")
    assert [point.accuracy for point in points] == [0.2, 0.4, 0.9]
    assert [point.device_seconds for point in points] == pytest.approx([0, 1800, 3 * 1800])


def test_an_event_file_that_was_cut_off(tmp_path):
    log = write_log("tensorboard", tmp_path)
    before = verl_logs.read_log(log).records
    (file,) = log.iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    *others, last = verl_logs.read_log(log).records
    # What was logged last is lost, and nothing before it.
    assert before[-1].metrics.keys() - last.metrics.keys() == {"val-core/toy/acc/best@2/mean"}
    assert others == before[:-1]


def test_a_file_that_is_damaged_and_one_that_is_still_written(tmp_path):
    log = write_log("file", tmp_path)
    whole = log.read_text()
    log.write_text(whole[:-50])
    assert [record.step for record in verl_logs.read_log(log).records] == [0, 1]
    log.write_text(whole[:-50] + "\n" + whole)
    with pytest.raises(DatasetError, match=r"exp.jsonl begins like a log of verl and is damaged further on"):
        find_runs([log])


def test_a_log_that_begins_late_has_no_whole_cost(tmp_path):
    """The file logger empties its file when a run is resumed."""
    log = write_log("file", tmp_path / "logs", {41: STEPS[1], 42: STEPS[2]})
    (run,) = find_runs([log])
    assert run.missing_steps == list(range(1, 41))
    with pytest.raises(DatasetError, match="without the cost of some steps: give the log of the whole run"):
        wallclock.compare([run])
    assert "40 steps are not in its log (the first is 1), nor is their cost" in cost.compare([run]).notes()[1]
    whole = write_log("file", tmp_path / "logs", name="whole")
    comparison = wallclock.compare(find_runs([log, whole], "H"))
    assert [one.name for one in comparison.runs] == ["whole (file)"]
    assert comparison.notes()[0] == "Without the cost of some steps, and left out: exp (file)"
    # Its accuracy is as good as another's.
    assert [c.chosen.runs[0].name for c in objectives.compare([run]).choices] == ["exp (file)"]


def test_rewards_are_accuracies_only_between_0_and_1(tmp_path):
    steps = {
        0: {**accuracy(0.2, "reward"), **accuracy(-0.6, "reward", "signed/math")},
        1: {**TRAINING_STEP, **accuracy(0.4, "reward"), **accuracy(0.8, "reward", "signed/math")},
    }
    comparison = wallclock.compare(find_runs([write_log("file", tmp_path, steps)]))
    assert comparison.data_source == "toy"
    _, reward, left_out = comparison.notes()
    assert "accuracy on toy is the mean reward" in reward
    assert "rewards on signed/math are not between 0 and 1" in left_out


def test_problem_sets_and_samples_must_be_the_same(tmp_path):
    make_run(tmp_path / "fpa", [1, 2, 4])
    other = write_log("file", tmp_path / "logs", {0: accuracy(0.2, source="math"), 1: STEPS[1] | accuracy(0.4)})
    # Only what both were asked counts, and validation problems go by their name here as well.
    assert wallclock.compare(find_runs([other, tmp_path / "fpa"], "H")).data_source == "toy"
    math = write_log("file", tmp_path / "logs", {0: accuracy(0.2, source="math")}, name="math")
    with pytest.raises(DatasetError, match=r"logged an accuracy on math, and on none of toy/validation, toy"):
        wallclock.compare(find_runs([math, tmp_path / "fpa"], "H"))
    sixteen = write_log("file", tmp_path / "logs", {0: {"val-core/toy/acc/mean@16": 0.2}}, name="sixteen")
    with pytest.raises(MismatchError, match=r"their evaluation's samples of toy differs \(2 and 16\)"):
        wallclock.compare(find_runs([tmp_path / "fpa", sixteen], "H"))


def test_a_log_without_devices_is_refused(tmp_path):
    metrics = {name: value for name, value in STEPS[1].items() if name != "perf/throughput"}
    with pytest.raises(DatasetError, match=r"does not say how many devices .* \(perf/throughput is missing\)"):
        find_runs([write_log("file", tmp_path, {1: metrics})])
    # Validation alone took no step, and so no device is asked for.
    (run,) = find_runs([write_log("file", tmp_path, {0: STEPS[0]})])
    assert wallclock.compare([run]).curves[0].points[0].device_hours == 0.0


def test_the_log_of_an_offline_recipe_is_refused(tmp_path):
    """Its dataset's cost is in its run directory, and nowhere in what verl logs."""
    log = write_log("file", tmp_path, {1: {**STEPS[1], "dynamics/right/log_prob": -0.1}})
    with pytest.raises(DatasetError, match=r"is the log of an offline recipe.*give the run directory"):
        find_runs([log])


def test_which_files_are_logs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(Path("runs/fpa"), [1, 2])
    write_log("file", Path("runs/fpa"), name="inside")
    write_log("file", Path("logs"))
    Path("logs/project/other.jsonl").write_text('{"step": 1}\n')
    Path("logs/project/text.jsonl").write_text("not JSON\n")

    def names(*given):
        return [run.name for run in find_runs(given)]

    assert names("logs/project/*") == names("logs/**") == names("logs/project/exp.jsonl") == ["exp (file)"]
    # In a folder, nothing but its content would tell; what a run directory holds is read with it.
    assert names("logs") == []
    assert names("runs", "runs/**") == ["fpa"]
    assert names(f"{run}/project/inside.jsonl") == ["inside (file)"]


def test_folders_of_tensorboard_and_wandb_are_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log("tensorboard", Path("tensorboard_log/project"))
    write_log("wandb", Path("work"))
    assert [run.name for run in find_runs(["tensorboard_log", "work"])] == ["exp (tensorboard)", "exp (wandb)"]
    (events,) = Path("tensorboard_log").rglob("*tfevents*")
    # Wandb links the latest run to a second place: it is one run all the same.
    assert len(find_runs([events, "tensorboard_log/*/exp", "work/wandb/*", "work/wandb/latest-run"])) == 2


def test_comparisons_that_need_more_than_a_log_has(tmp_path):
    log = write_log("file", tmp_path)
    with pytest.raises(DatasetError, match="no run with a lambda"):
        lambdas.compare(find_runs([log]))
    with pytest.raises(DatasetError, match="a log of verl does not say how far"):
        watch([str(log)], Console(file=io.StringIO()), 1.0)


@pytest.mark.parametrize("backend", ["tensorboard", "wandb"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, backend):
    log = write_log(backend, tmp_path)
    for module in ("tensorboard.compat.proto", "wandb.proto"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DatasetError, match=f"pip install {backend}"):
        find_runs([log])


def test_the_whole_report_of_logs_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log("file", Path("logs"))
    write_log("tensorboard", Path("logs"))
    done = CliRunner().invoke(
        app, ["report", "file=logs/project/exp.jsonl", "events=logs/exp", "--device", "H", "--out", "out"]
    )
    assert done.exit_code == 0, done.output
    content = json.loads(Path("out/wallclock.json").read_text())
    assert content["provenance"]["command"].endswith("--device H")
    assert [Path(one["file"]).suffix for one in content["provenance"]["inputs"]][:1] == [".jsonl"]
    page = Path("out/report.html").read_text()
    assert "not recorded; read from logs/project/exp.jsonl" in page
    assert "Where the device-time went" in page
