"""What is refused, before Ray starts, of snapshots and of a shared evaluation of the base model; what they come to."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from fpa_verl.errors import ConfigError, DatasetError, MismatchError
from fpa_verl.files import append_json_line, write_json
from fpa_verl.integration.command.checks import disk, evaluation
from fpa_verl.integration.command.checks.disk import bytes_needed
from fpa_verl.integration.config.identity import describe_evaluation, describe_run
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.report.statistics.base import base_notes, with_pooled_base
from fpa_verl.runs.inputs import MODEL_FILE
from fpa_verl.runs.names import BEST_MODEL, RUN_FILE
from fpa_verl.runs.record import open_run, record_base, record_evaluation
from fpa_verl.runs.run import read_run
from fpa_verl.runs.snapshots import keep_best_snapshot, not_evaluated, snapshot_folder, snapshots_of
from tests.integration.running import DEMO, composed
from tests.runs.directories import INFO, make_run, outcomes


@pytest.fixture
def facts(base_model, chained_additions, tmp_path):
    def of(*overrides, recipe="fpa_offline", temperature=0.7):
        return facts_of(
            composed(
                recipe,
                *DEMO,
                f"actor_rollout_ref.model.path={base_model}",
                f"rollouts={chained_additions}",
                f"data.val_files=[{chained_additions}/validation.parquet]",
                f"run_dir={tmp_path}/{recipe}",
                f"actor_rollout_ref.rollout.val_kwargs.temperature={temperature}",
                *overrides,
            )
        )

    return of


def evaluated(folder, facts, *, finished=True):
    """An evaluation of the base model, as `recipe=evaluate` leaves it."""
    open_run(folder, describe_evaluation(facts))
    append_json_line(folder / "ledger.jsonl", {"kind": "attempt", "time": 0, "attempt": 1, "devices": 1})
    (source,) = facts.evaluation["problem_sets"]
    record_evaluation(folder, attempt=1, step=0, problems={source: outcomes(1)})
    if finished:
        append_json_line(folder / "ledger.jsonl", {"kind": "end", "time": 0, "attempt": 1, "step": 0, "seconds": {}})
    return folder


def test_a_run_takes_its_base_accuracy_from_a_finished_evaluation_of_the_same_model(facts, tmp_path):
    base = evaluated(tmp_path / "base", facts(recipe="evaluate"))
    run = facts(f"evaluation.base={base}")
    evaluation.check(run)
    assert run.config.trainer.val_before_train is False
    # The number of answers may be another.
    evaluation.check(facts(f"evaluation.base={base}", "evaluation.samples=5"))


@pytest.mark.parametrize("folder", ["nothing", "run"])
def test_a_folder_without_an_evaluation_says_what_to_type(facts, tmp_path, folder):
    make_run(tmp_path / "run", [1])
    with pytest.raises(DatasetError, match=r"holds no evaluation.*recipe=evaluate run_dir="):
        evaluation.check(facts(f"evaluation.base={tmp_path}/{folder}"))


def test_an_evaluation_that_is_not_finished_is_refused(facts, tmp_path):
    base = evaluated(tmp_path / "base", facts(recipe="evaluate"), finished=False)
    with pytest.raises(DatasetError, match="is not finished"):
        evaluation.check(facts(f"evaluation.base={base}"))


def test_an_evaluation_of_something_else_is_refused_with_what_differs(facts, tmp_path):
    base = evaluated(tmp_path / "base", facts(recipe="evaluate", temperature=1.0))
    with pytest.raises(MismatchError, match="its temperature differs"):
        evaluation.check(facts(f"evaluation.base={base}"))


def with_snapshots(folder, facts, steps=(50,)):
    open_run(folder, describe_run(facts))
    append_json_line(folder / "ledger.jsonl", {"kind": "attempt", "time": 0, "attempt": 1, "devices": 1})
    for step in steps:
        snapshot = snapshot_folder(folder, step)
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").write_bytes(str(step).encode())
        write_json(snapshot / MODEL_FILE, {"step": step, "attempt": 1})
    return folder


def test_runs_to_evaluate_must_be_named_have_snapshots_and_say_the_same_of_their_evaluation(facts, tmp_path):
    with pytest.raises(ConfigError, match=r"evaluation\.runs names no run"):
        evaluation.check(facts(recipe="evaluate_snapshots"))
    run = with_snapshots(tmp_path / "run", facts())
    evaluation.check(facts(f"evaluation.runs=[{run}]", recipe="evaluate_snapshots"))
    with pytest.raises(MismatchError, match="evaluation's samples differs"):
        evaluation.check(facts(f"evaluation.runs=[{run}]", "evaluation.samples=7", recipe="evaluate_snapshots"))
    bare = tmp_path / "bare"
    open_run(bare, describe_run(facts()))
    with pytest.raises(DatasetError, match=r"holds no snapshots/: train with snapshots\.every=50"):
        evaluation.check(facts(f"evaluation.runs=[{bare}]", recipe="evaluate_snapshots"))


def test_a_recipe_is_done_when_all_snapshots_were_evaluated(facts, tmp_path):
    run = with_snapshots(tmp_path / "run", facts(), steps=(50, 100))
    asked = facts(f"evaluation.runs=[{run}]", recipe="evaluate_snapshots")
    assert [one.step for one in not_evaluated(run)] == [50, 100]
    assert not asked.kind.is_done(asked)
    (source,) = facts().evaluation["problem_sets"]
    for step, right in ((50, 3), (100, 1)):
        record_evaluation(run, attempt=1, step=step, problems={source: outcomes(right)}, trained=True)
    assert asked.kind.is_done(asked)


def test_the_best_snapshot_becomes_the_best_model_and_the_base_model_none(facts, tmp_path):
    run = with_snapshots(tmp_path / "run", facts(), steps=(50, 100))
    (source,) = facts().evaluation["problem_sets"]
    for step, right in ((50, 3), (100, 1)):
        record_evaluation(run, attempt=1, step=step, problems={source: outcomes(right)}, trained=True)
    assert keep_best_snapshot(run) == 50
    assert (run / BEST_MODEL / "model.safetensors").read_bytes() == b"50"
    # What stands beside the snapshot is as it was.
    assert "validation_accuracy" not in snapshots_of(run)[0].about
    shutil.rmtree(run / BEST_MODEL)
    record_base(run, read_run(evaluated_with(tmp_path / "base", facts(recipe="evaluate"), right=4)), attempt=1)
    assert keep_best_snapshot(run) is None
    assert not (run / BEST_MODEL).exists()


def evaluated_with(folder, facts, right):
    open_run(folder, describe_evaluation(facts))
    (source,) = facts.evaluation["problem_sets"]
    record_evaluation(folder, attempt=1, step=0, problems={source: outcomes(right)})
    return folder


def test_a_shared_measurement_of_the_base_model_counts_once(tmp_path):
    base = make_run(tmp_path / "base", [3])
    folders = [make_run(tmp_path / name, [], validation=[]) for name in ("a", "b")]
    for folder in folders:
        record_base(folder, read_run(base), attempt=1)
        # A second attempt finds it there.
        record_base(folder, read_run(base), attempt=2)
    runs = with_pooled_base([read_run(folder) for folder in folders])
    assert [point.problems for run in runs for point in run.of_source("toy")] == [outcomes_of(3)] * 2
    assert base_notes(runs, ["toy"]) == []
    # Beside one that measured it by itself there are two.
    own = make_run(tmp_path / "own", [1])
    runs = with_pooled_base([*runs, read_run(own)])
    assert "measured 2 times" in base_notes(runs, ["toy"])[0]


def outcomes_of(right):
    return {key: tuple(value) for key, value in outcomes(right).items()}


def test_the_disk_holds_every_snapshot(facts):
    every = "scale.offline.steps=100", "snapshots.every=30"
    without, with_four = bytes_needed(facts("scale.offline.steps=100")), bytes_needed(facts(*every))
    parameters = sum(p.numel() for p in _model(facts()).parameters())
    # 30, 60, 90 and the last.
    assert with_four - without == 4 * 2 * parameters


def test_a_checkpoint_with_a_model_for_others_takes_that_as_well(facts):
    contents = "actor_rollout_ref.actor.checkpoint.save_contents"
    usual, more = facts("trainer.save_freq=10"), facts("trainer.save_freq=10", f"{contents}=[model,optimizer,hf_model]")
    kept = usual.config.trainer.max_actor_ckpt_to_keep + 1
    assert bytes_needed(more) - bytes_needed(usual) == kept * 2 * disk.parameters_of(usual.model_path)


def _model(facts):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(facts.model_path)


def test_snapshots_every_so_many_steps_is_bounded(facts):
    from fpa_verl.integration.command.checks import settings

    with pytest.raises(ConfigError, match=r"snapshots\.every=0: .*at least 1"):
        settings.check(facts("snapshots.every=0"))


def test_the_info_of_made_up_runs_is_what_runs_have(facts):
    assert INFO.keys() - {"dataset"} <= describe_run(facts()).keys()


def test_an_evaluation_by_another_decoding_is_no_base_and_no_snapshot_s(facts, tmp_path):
    """The usual one is not named."""
    base = evaluated(tmp_path / "base", facts(recipe="evaluate"))
    run = with_snapshots(tmp_path / "run", facts())
    for folder in (base, run):
        info = json.loads((folder / RUN_FILE).read_text())
        info["evaluation"]["decoding"] = {"kind": "beam"}
        write_json(folder / RUN_FILE, info)
    with pytest.raises(MismatchError, match="its decoding differs"):
        evaluation.check(facts(f"evaluation.base={base}"))
    with pytest.raises(MismatchError, match="its evaluation's decoding differs"):
        evaluation.check(facts(f"evaluation.runs=[{run}]", recipe="evaluate_snapshots"))


def test_a_best_model_that_a_kill_cost_is_kept_by_the_same_command(facts, tmp_path):
    run = with_snapshots(tmp_path / "run", facts())
    (source,) = facts().evaluation["problem_sets"]
    record_evaluation(run, attempt=1, step=50, problems={source: outcomes(3)}, trained=True)
    asked = facts(f"evaluation.runs=[{run}]", recipe="evaluate_snapshots")
    assert asked.kind.is_done(asked)
    assert (run / BEST_MODEL / "model.safetensors").read_bytes() == b"50"


def test_what_a_run_has_kept_already_needs_no_room(facts, tmp_path, monkeypatch):
    words = (f"run_dir={tmp_path}/run", "scale.offline.steps=100", "snapshots.every=50")
    run, kept = facts(*words), 1000
    (tmp_path / "run" / "snapshots").mkdir(parents=True)
    (tmp_path / "run" / "snapshots" / "some").write_bytes(bytes(kept))
    free = bytes_needed(run) - kept
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    disk.check(run)
    free -= 1
    with pytest.raises(ConfigError, match=r"0\.0 GB, 0\.0 more than are free"):
        disk.check(run)
