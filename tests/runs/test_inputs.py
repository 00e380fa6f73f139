"""What a run owes to others: in run.json as it is written, and as it was before there was a list."""

from __future__ import annotations

import json

import pytest

from fpa_verl.errors import MismatchError
from fpa_verl.report.comparisons import wallclock
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.inputs import DATASET, REFERENCE_CACHE, RUN, Input, everything_owed, made_by
from fpa_verl.runs.ledger import Cost
from fpa_verl.runs.record import open_run
from fpa_verl.runs.run import read_run
from tests.runs.directories import INFO, make_run


def one(kind, fingerprint, seconds, devices=2, **more):
    cost = {"device_seconds": {"generation": seconds}, "devices": devices, "device": "H"}
    return Input(kind, f"/{fingerprint}", fingerprint, "base", seconds, cost, **more)


def listed(*inputs):
    return [each.as_json() for each in inputs]


DATA = one(DATASET, "d", 3600.0, about={"counts": {"response_tokens": 5}})
CACHE = one(REFERENCE_CACHE, "c", 100.0, devices=4)


def test_the_list_and_what_stood_there_before_are_the_same_run(tmp_path):
    before = {
        "dataset": {"folder": "/d", "fingerprint": "d", "device_seconds": 3600.0, "cost": DATA.cost, **DATA.about},
        "reference": {"source": "topk", "k": 4, "device_seconds": 100.0, "cost": CACHE.cost},
    }
    old = read_run(make_run(tmp_path / "old", [1, 4], **before))
    info = {key: value for key, value in INFO.items() if key != "dataset"}
    new = read_run(make_run(tmp_path / "new", [1, 4], without=["dataset"], inputs=listed(DATA, CACHE)))
    assert "dataset" not in new.info
    assert info.keys() <= new.info.keys()
    # 3,600 device-seconds on 2 devices, 100 on 4.
    assert old.data_cost == new.data_cost == Cost(3700.0, 1825.0)
    assert old.dataset.fingerprint == new.dataset.fingerprint == "d"
    assert old.dataset.about == new.dataset.about
    for run in (old, new):
        assert (run.generates, run.data_cost_is_known) == (False, True)


def test_what_was_made_from_the_same_trees_is_paid_for_once():
    """A run on step pairs goes on from one that learned from the solutions of the same search."""
    steps, solutions, others = (
        one(DATASET, name, 60.0, about={"trees": trees})
        for name, trees in (("steps", "t"), ("solutions", "t"), ("others", "u"))
    )
    earlier = one(RUN, "fpa", 800.0, inputs=(solutions, others))
    assert [each.fingerprint for each in everything_owed([earlier, steps])] == ["fpa", "steps", "others"]


def test_an_earlier_run_is_charged_with_all_that_it_owed_itself_and_nothing_twice(tmp_path):
    """A run that goes on from FPA's step 4 and trains on its data: data 3,600, cache 100, training 800, once each."""
    earlier = one(RUN, "fpa", 800.0, about={"step": 4}, inputs=(DATA, CACHE))
    assert [each.fingerprint for each in everything_owed([earlier, DATA])] == ["fpa", "d", "c"]
    run = read_run(make_run(tmp_path / "a", [1, 4], without=["dataset"], inputs=listed(earlier, DATA)))
    assert run.inputs_cost.device_seconds == 4500.0
    assert run.inputs[0].inputs[0] == DATA
    assert run.inputs[0].base_model == "base"
    # One that goes on online generates its own data from there.
    online = read_run(make_run(tmp_path / "b", [1, 4], without=["dataset"], inputs=listed(earlier)))
    assert online.generates
    assert online.inputs_cost.device_seconds == 4500.0
    curve = wallclock.compare([online]).curves[0]
    # 4,500 s before it began and 900 s on 2 devices: the first step stands at 6,300 / 3,600 hours.
    assert curve.points[1].device_hours == pytest.approx(1.75)


def test_data_without_a_cost_is_not_known_to_be_free(tmp_path):
    free = Input(DATASET, "", "d", None, 0.0, {})
    run = read_run(make_run(tmp_path / "a", [1, 4], without=["dataset"], inputs=listed(free)))
    assert not run.data_cost_is_known


def test_a_cache_of_another_device_is_named(tmp_path):
    elsewhere = Input(REFERENCE_CACHE, "", "c", None, 1.0, {"device": "A100", "device_seconds": {"reference": 1.0}})
    make_run(tmp_path / "a", [1, 4], without=["dataset"], inputs=listed(DATA, elsewhere))
    with pytest.raises(MismatchError, match=r"with a reference cache made on A100.*Make the cache on the device"):
        wallclock.compare(find_runs([tmp_path]))


def test_going_on_from_another_run_is_another_run(tmp_path):
    folder = make_run(tmp_path / "a", [1], without=["dataset"], inputs=listed(one(RUN, "x", 1.0, about={"step": 4})))
    info = {key: value for key, value in INFO.items() if key != "dataset"}
    open_run(folder, {**info, "inputs": listed(one(RUN, "x", 1.0, about={"step": 4}))})
    with pytest.raises(MismatchError, match="its earlier run differs"):
        open_run(folder, {**info, "inputs": listed(one(RUN, "x", 1.0, about={"step": 8}))})


def test_a_run_owed_up_to_two_steps_is_owed_up_to_the_later_one():
    early, late = (one(RUN, "fpa", seconds, about={"step": step}) for step, seconds in ((4, 100.0), (40, 900.0)))
    for inputs in ([early, late], [late, early], [early, one(RUN, "b", 1.0, inputs=(late,))]):
        assert sum(each.device_seconds for each in everything_owed(inputs) if each.fingerprint == "fpa") == 900.0


def test_runs_are_compared_by_the_model_that_they_descend_from(tmp_path):
    """One goes on from a model that another trained: both descend from "m"."""
    owed = Input(RUN, "/fpa", "fpa", "m", 800.0, {"device": "H"}, {"step": 4})
    trained = {**INFO["fingerprints"], "model": "m after four steps"}
    make_run(tmp_path / "a", [1, 4])
    make_run(tmp_path / "b", [1, 4], without=["dataset"], inputs=listed(owed), fingerprints=trained, recipe="grpo")
    comparison = wallclock.compare(find_runs([tmp_path]))
    owed_before = {run.recipe: run.inputs_cost.device_seconds for run in comparison.runs}
    assert owed_before == {"fpa_offline": 0, "grpo": 800}
    make_run(tmp_path / "c", [1, 4], fingerprints=trained, recipe="other")
    with pytest.raises(MismatchError, match=r"their base model differs \(m and m after four steps\)"):
        wallclock.compare(find_runs([tmp_path]))


def test_runs_of_other_ancestors_are_no_seeds_of_one_another(tmp_path):
    for name, step in (("a", 4), ("b", 8)):
        owed = Input(RUN, "/fpa", "fpa", "m", 100.0 * step, {"device": "H"}, {"step": step})
        make_run(tmp_path / name, [1, 4], without=["dataset"], inputs=listed(owed))
    assert len(wallclock.compare(find_runs([tmp_path])).curves) == 2


def test_a_model_says_which_run_made_it(tmp_path):
    assert made_by(tmp_path) is None
    file = tmp_path / "fpa_verl.json"
    file.write_text(json.dumps({"step": 4, "validation_accuracy": 0.5}))
    assert made_by(tmp_path) is None, "as it was written before"
    owed = one(RUN, "fpa", 800.0, about={"step": 4}, inputs=(DATA,))
    file.write_text(json.dumps({"step": 4, "made_by": owed.as_json()}))
    assert made_by(tmp_path) == owed
