"""Going on from a run: which model it hands over, what that cost, and how its curve is drawn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fpa_verl.errors import DatasetError
from fpa_verl.integration.command.launch import hand_over
from fpa_verl.report.comparisons import wallclock
from fpa_verl.report.figures.drawing import draw
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.handing_over import model_of
from fpa_verl.runs.inputs import DATASET, RUN, Input
from fpa_verl.runs.record import run_fingerprint
from fpa_verl.runs.run import read_info
from tests.runs.directories import INFO, make_run

DATA = Input(
    DATASET, "/data", "d", "m", 3600.0, {"device": "H", "devices": 2, "device_seconds": {"generation": 3600.0}}
)


def owed(folder, step, seconds, *inputs, **about) -> Input:
    file, cost = folder / "run.json", {"device": "H", "devices": 2}
    fingerprint = run_fingerprint(str(folder), read_info(file)) if file.exists() else folder.name
    return Input(RUN, str(folder), fingerprint, "m", seconds, cost, {"step": step, **about}, inputs)


def keep(model, by: Input | None = None):
    """A model that a run kept."""
    model.mkdir(parents=True)
    (model / "fpa_verl.json").write_text(json.dumps({"step": 1, **({"made_by": by.as_json()} if by else {})}))
    return model


def test_a_run_hands_over_its_best_model_and_a_snapshot_itself(tmp_path):
    run = make_run(tmp_path / "fpa", [1, 2])
    best = keep(run / "best", owed(run, 1, 900.0))
    snapshot = keep(run / "snapshots" / "step_2", owed(run, 2, 1800.0))
    assert model_of(str(run)) == best
    assert model_of(str(snapshot)) == snapshot
    config = SimpleNamespace(start_from=str(run), actor_rollout_ref=SimpleNamespace(model=SimpleNamespace(path="base")))
    hand_over(config)
    assert config.actor_rollout_ref.model.path == str(best)
    config.start_from, config.actor_rollout_ref.model.path = None, "base"
    hand_over(config)
    assert config.actor_rollout_ref.model.path == "base"


def test_what_hands_nothing_over_is_refused_with_what_to_type(tmp_path):
    run = make_run(tmp_path / "fpa", [2, 1], validation=[2, 1])
    with pytest.raises(DatasetError, match=r"training did not help.*snapshots/step_N goes on from a snapshot"):
        model_of(str(run))
    (tmp_path / "plain").mkdir()
    for name in ("plain", "nowhere"):
        with pytest.raises(DatasetError, match=r"no run directory, and no model.*actor_rollout_ref.model.path"):
            model_of(str(tmp_path / name))
    with pytest.raises(DatasetError, match=r"fpa kept none: snapshots.every=N, set before it trains"):
        model_of(str(run / "checkpoints" / "global_step_50"))
    (run / "snapshots" / "step_2").mkdir(parents=True)
    (run / "snapshots" / "step_2" / "fpa_verl.json").write_text(json.dumps({"step": 2, "attempt": 1}))
    with pytest.raises(DatasetError, match=r"fpa kept snapshots/step_2; more of them"):
        model_of(str(run / "snapshots" / "step_3"))
    with pytest.raises(DatasetError, match="does not say which run made it"):
        model_of(str(keep(tmp_path / "old")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (json.dumps({"made_by": [1]}), "is damaged"),
        (json.dumps({"made_by": {"kind": "run"}}), "is damaged"),
        (json.dumps({"made_by": {**owed(Path("a"), 1, 9.0).as_json(), "new": 1}}), "is damaged"),
        (json.dumps({"made_by": {**owed(Path("a"), 1, 9.0).as_json(), "base_model": None}}), "made it: base_model"),
        (json.dumps({"made_by": {**owed(Path("a"), 1, 9.0).as_json(), "cost": {}}}), "made it: cost"),
        (json.dumps({"made_by": {**owed(Path("a"), 1, 9.0).as_json(), "about": {}}}), "made it: step"),
        (json.dumps({"made_by": {**owed(Path("a"), 1, 9.0).as_json(), "kind": "dataset"}}), "made it: kind"),
    ],
)
def test_a_model_whose_lineage_is_damaged_is_refused(tmp_path, text, message):
    (keep(tmp_path / "model", owed(tmp_path, 1, 9.0)) / "fpa_verl.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        model_of(str(tmp_path / "model"))


def three_generations(tmp_path):
    """FPA on a dataset, GRPO from its first step, FPA again from GRPO's first; each step takes 900 s on 2 devices."""
    first = make_run(tmp_path / "fpa", [1, 2, 3], without=["dataset"], inputs=[DATA.as_json()])
    by_first = owed(first, 1, 1800.0, DATA)
    later = {**INFO["fingerprints"], "model": "m after a step"}
    second = make_run(
        tmp_path / "then_grpo",
        [2, 3],
        without=["dataset"],
        inputs=[by_first.as_json()],
        fingerprints=later,
        recipe="grpo",
    )
    by_second = owed(second, 1, 1800.0, by_first)
    latest = {**INFO["fingerprints"], "model": "m after two"}
    make_run(
        tmp_path / "then_sft",
        [3, 4],
        without=["dataset"],
        inputs=[by_second.as_json()],
        fingerprints=latest,
        recipe="sft",
    )
    return wallclock.compare(find_runs([tmp_path]))


def test_what_came_before_is_paid_for_once_and_stands_in_front(tmp_path):
    curves = {curve.name: curve for curve in three_generations(tmp_path).methods}
    # Device-hours: the dataset 1; a step 0.5. What was handed over was evaluated as the next one's step 0.
    assert curves["fpa_offline"].mean_hours("device").tolist() == [0.0, 1.5, 2.0]
    assert curves["grpo"].mean_hours("device").tolist() == [0.0, 1.5, 2.0]
    assert curves["sft"].mean_hours("device").tolist() == [0.0, 1.5, 2.0, 2.5]
    assert [curves[name].earlier for name in ("fpa_offline", "grpo", "sft")] == [0, 1, 2]
    assert curves["sft"].mean_accuracy().tolist() == [0.25, 0.5, 0.75, 1.0]
    # Of that the dataset, which other runs could share.
    assert {curve.data["device"] for curve in curves.values()} == {1.0}


def test_an_earlier_run_that_held_first_two_devices_and_then_one_took_the_time_by_the_clock(tmp_path):
    """1,800 device-seconds in 900 s, and 900 in as many."""
    cost = {"device": "H", "devices": 1, "device_seconds": {"training": 2700.0}, "wall_seconds": 1800.0}
    run = Input(RUN, str(tmp_path), "r", "m", 2700.0, cost, {"step": 2})
    assert run.paid(devices=1).wall_seconds == 1800.0
    # Of before that was written down: as many devices as in the end.
    before = {name: value for name, value in cost.items() if name != "wall_seconds"}
    assert replace(run, cost=before).paid(devices=2).wall_seconds == 2700.0


def test_seeds_of_an_arm_that_goes_on_from_seeds_of_another_are_one_curve(tmp_path):
    """Three of GRPO from three of FPA, from the best of each, by the folders of their own that a study gives them."""
    for seed, best in enumerate([1, 2, 1]):
        names = {"seed": seed, "without": ["dataset"]}
        fpa = make_run(tmp_path / f"fpa_seed{seed}", [1, 2, 3], inputs=[DATA.as_json()], **names)
        by = owed(fpa, best, 1800.0 * best, DATA, recipe="fpa_offline", made="alike", chosen=True)
        inputs = [by.as_json()]
        make_run(tmp_path / f"then_seed{seed}", [2, 3], recipe="grpo", inputs=inputs, **names)
    labelled = [f"{name}={tmp_path}/{name}_seed*" for name in ("fpa", "then")]
    comparison = wallclock.compare(find_runs(labelled), against="then")
    curves = {curve.name: curve for curve in comparison.methods}
    assert {name: len(curve.runs) for name, curve in curves.items()} == {"fpa": 3, "then": 3}
    # In front stands what all three took part in: FPA's base model.
    assert (curves["then"].steps.tolist(), curves["then"].earlier) == ([0, 0, 1], 1)
    assert not any("not drawn" in note for note in comparison.notes())


def changed(run, **info):
    file = run / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **info}))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda run: shutil.rmtree(run), "fpa is not there any more"),
        (lambda run: changed(run, seed=9), "fpa holds another run now"),
        (lambda run: (run / "ledger.jsonl").unlink(), "fpa is without the cost of some steps"),
    ],
)
def test_what_a_run_goes_on_from_is_drawn_where_it_is_that_run_with_all_its_cost(tmp_path, change, why):
    first = make_run(tmp_path / "fpa", [1, 2, 3], without=["dataset"], inputs=[DATA.as_json()])
    inputs = [owed(first, 1, 1800.0, DATA).as_json()]
    then = make_run(tmp_path / "then", [2, 3], without=["dataset"], inputs=inputs, recipe="grpo")
    change(first)
    comparison = wallclock.compare(find_runs([then]))
    assert comparison.methods[0].earlier == 0
    assert any(note.endswith(why) and "what it goes on from is not drawn" in note for note in comparison.notes())


def test_what_a_run_goes_on_from_is_not_drawn_where_another_scorer_judged_it(tmp_path):
    other = {**INFO["fingerprints"], "scorer": "another"}
    first = make_run(tmp_path / "fpa", [1, 4, 4], without=["dataset"], inputs=[DATA.as_json()], fingerprints=other)
    inputs = [owed(first, 1, 1800.0, DATA).as_json()]
    then = make_run(tmp_path / "then", [2, 3], without=["dataset"], inputs=inputs, recipe="grpo")
    comparison = wallclock.compare(find_runs([then]))
    assert comparison.methods[0].earlier == 0
    assert any("fpa was asked or scored otherwise" in note for note in comparison.notes())


def test_a_model_that_was_handed_over_is_no_base_model(tmp_path):
    comparison = three_generations(tmp_path)
    assert comparison.base == 0.25
    assert comparison.targets
    assert comparison.reached_by_base == []


def test_a_target_is_reached_where_the_run_before_reached_it(tmp_path):
    three_generations(tmp_path)
    comparison = wallclock.compare(find_runs([tmp_path]), targets=[0.5, 0.7, 1.0], against="fpa_offline")
    hours = {(time.method, time.target): time.hours["device"].value for time in comparison.times}
    assert [hours["sft", target] for target in (0.5, 0.7, 1.0)] == [1.5, 2.0, 2.5]
    assert [hours["grpo", target] for target in (0.5, 0.7, 1.0)] == [1.5, 2.0, float("inf")]
    ratios = {(time.method, time.target): time.ratio.value for time in comparison.times if time.ratio}
    assert ratios["sft", 0.5] == 1.0


def test_what_was_handed_over_counts_where_the_next_run_did_not_evaluate_it(tmp_path):
    first = make_run(tmp_path / "fpa", [1, 2, 3], without=["dataset"], inputs=[DATA.as_json()])
    then = make_run(
        tmp_path / "then", [2, 3], without=["dataset"], inputs=[owed(first, 1, 1800.0, DATA).as_json()], recipe="grpo"
    )
    file = then / "evaluations.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if json.loads(line)["step"]))
    curve = next(curve for curve in wallclock.compare(find_runs([tmp_path])).methods if curve.name == "grpo")
    assert curve.steps.tolist() == [0, 1, 1]
    assert curve.mean_hours("device").tolist() == [0.0, 1.5, 2.0]


def test_it_is_drawn_dotted_in_the_same_colour(tmp_path):
    comparison = three_generations(tmp_path)
    axes = draw(comparison)["wallclock"].axes[0]
    dotted = [line for line in axes.lines if line.get_linestyle() == ":" or line._unscaled_dash_pattern[1] == (1, 1)]
    assert len(dotted) == 2
    for line in dotted:
        assert any(line.get_color() == other.get_color() and other is not line for other in axes.lines)


def test_a_run_that_is_gone_leaves_the_cost_and_no_curve(tmp_path):
    gone = owed(tmp_path / "gone", 1, 1800.0, DATA)
    make_run(tmp_path / "grpo", [2, 3], without=["dataset"], inputs=[gone.as_json()])
    (curve,) = wallclock.compare(find_runs([tmp_path])).methods
    assert curve.mean_hours("device").tolist() == [1.5, 2.0]
    assert curve.earlier == 0
