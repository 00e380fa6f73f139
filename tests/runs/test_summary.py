"""What a run says in its end."""

from __future__ import annotations

from fpa_verl.runs.run import read_run
from fpa_verl.runs.summary import summary
from tests.runs.directories import make_run

COST = {"cost": {"device": "H", "devices": 2}}


def test_base_and_last_accuracy_best_step_and_cost(tmp_path):
    dataset = {"fingerprint": "d", "device_seconds": 180.0, **COST}
    folder = make_run(tmp_path / "a", [1, 2, 4], validation=[1, 3, 2], seconds_a_step=15.0, dataset=dataset)
    (folder / "best").mkdir()
    assert summary(read_run(folder)) == [
        f"{folder}: 2 steps",
        "  toy/validation: 25.0 ± 25.0 % before training, 50.0 ± 28.9 % after step 2",
        "  toy: 25.0 ± 25.0 % before training, 100.0 ± 0.0 % after step 2",
        f"  best on the validation problems: step 1 (75.0 %, 25.0 % before training); its model: {folder}/best",
        # 2 steps of 15 s on 2 devices.
        "  cost: 1.00 device-minutes, start-up and evaluation left out; of what it learns from: 3.00 device-minutes",
    ]


def test_an_online_run_learns_from_nothing_that_was_paid_for_before(tmp_path):
    lines = summary(read_run(make_run(tmp_path / "a", [1, 2], seconds_a_step=3600.0)))
    assert lines[-1] == "  cost: 2.00 device-hours, start-up and evaluation left out"


def test_imported_text_cost_what_nobody_wrote_down(tmp_path):
    dataset = {"fingerprint": "d", "device_seconds": 0.0, "cost": {}}
    lines = summary(read_run(make_run(tmp_path / "a", [1, 2], dataset=dataset)))
    assert lines[-1].endswith("of what it learns from: not written down")


def test_no_best_model_is_explained_and_none_that_was_not_asked_for_is_not(tmp_path):
    run = read_run(make_run(tmp_path / "a", [1, 1], validation=[2, 1]))
    assert any("none of 1 validations beat the model" in line for line in summary(run))
    assert not any("best/" in line for line in summary(run, keeps_best=False))
