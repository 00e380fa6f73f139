"""A run in rounds as one run: what it cost, what it is called, and where a round stops paying."""

from __future__ import annotations

import json
import os
import shutil
from types import SimpleNamespace

import pytest

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.files import append_json_line
from fpa_verl.report.comparisons import cost, wallclock
from fpa_verl.report.comparisons.rounds import rounds_notes
from fpa_verl.report.statistics.bootstrap import Estimate
from fpa_verl.report.statistics.curves import paid_by
from fpa_verl.report.statistics.rounds import Round
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.handing_over import model_of
from fpa_verl.runs.inputs import DATASET, Input
from fpa_verl.runs.names import LEDGER_FILE, RUN_FILE
from fpa_verl.runs.rounds import Rounds, handed_over, read_run_in_rounds, round_folder, round_folders
from fpa_verl.runs.run import read_run
from fpa_verl.runs.state import Reader
from tests.runs.directories import INFO, make_run
from tests.runs.test_handing_over import DATA, keep, owed

COMMAND = "python -m verl.trainer.main recipe=fpa_offline rounds=2"
LATER = {**INFO["fingerprints"], "model": "m after a round"}


def dataset(folder, seconds: float) -> Input:
    """A later round's, generated on 2 devices, with its ledger."""
    phases = {"startup": 500.0, "generation": seconds / 2}
    attempt = {"time": 0, "attempt": 1}
    append_json_line(folder / "ledger.jsonl", {"kind": "attempt", "devices": 2, **attempt})
    append_json_line(folder / "ledger.jsonl", {"kind": "end", "step": 3, "seconds": phases, **attempt})
    cost_ = {"device": "H", "devices": 2, "device_seconds": {"generation": seconds}}
    return Input(DATASET, str(folder), f"d of {folder.parent.name}", "m", seconds, cost_)


def in_rounds(
    run,
    first,
    second,
    *,
    rounds=2,
    hands_over="last",
    of=4,
    reference="start",
    validation=(None, None),
    command=COMMAND,
):
    """Two rounds, each step of which takes 900 s on 2 devices; each dataset took 1 device-hour."""
    Rounds(rounds, reference, hands_over, command).write(run)
    one, other = (round_folder(run, number) for number in (1, 2))
    make_run(one, first, of=of, without=["dataset"], inputs=[DATA.as_json()], validation=validation[0])
    if second is not None:
        by_first = owed(one, len(first) - 1, 900.0 * 2 * (len(first) - 1), DATA)
        inputs = [by_first.as_json(), dataset(other / "rollouts", 3600.0).as_json()]
        make_run(
            other,
            second,
            of=of,
            without=["dataset"],
            inputs=inputs,
            fingerprints=LATER,
            validation=validation[1],
        )
    return run


def test_rounds_are_one_run_that_pays_for_all_of_them(tmp_path):
    (run,) = find_runs([in_rounds(tmp_path / "fpa", [1, 2, 2], [2, 3, 3])])
    assert (run.name, run.method, run.generates) == ("fpa", "fpa_offline, 2 rounds", False)
    assert run.training["rounds"] == 2
    # The second round's step 0 is the first one's step 2, measured once more.
    assert [(point.step, point.accuracy) for point in run.of_source("toy")] == [
        (0, 0.25),
        (1, 0.5),
        (2, 0.5),
        (3, 0.75),
        (4, 0.75),
    ]
    # Device-hours: the first dataset 1; a step 0.5; before step 3 the second dataset, 1.
    assert [paid_by(run, point).device_seconds / 3600 for point in run.of_source("toy")] == [0.0, 1.5, 2.0, 3.5, 4.0]
    assert run.spending.device_seconds["generation"] == 3600.0
    assert run.spending.device_seconds["training"] == 4 * 1800.0
    # Start-up of the second collection, 500 s on 2 devices.
    assert run.spending.device_seconds["startup"] == 1000.0
    assert run.spending.cost.device_seconds == 3600.0 + 4 * 1800.0
    assert (run.spending.last_step, run.finished) == (4, True)
    (curve,) = wallclock.compare([run]).methods
    assert curve.mean_hours("device").tolist() == [0.0, 1.5, 2.0, 3.5, 4.0]
    assert curve.data["device"] == 1.0
    # What was generated in the run is in the table by phase.
    by_phase = cost.compare([run]).tables()[0]
    assert dict(zip(by_phase.header, by_phase.rows[0], strict=True))["gen."] == "1.00"


def test_a_cache_of_a_later_round_s_reference_is_paid_for(tmp_path):
    run = in_rounds(tmp_path / "fpa", [1, 2], [2, 3])
    ledger, attempt = run / "round_2" / "rollouts" / "reference" / "topk" / "ledger.jsonl", {"time": 0, "attempt": 1}
    append_json_line(ledger, {"kind": "attempt", "devices": 2, **attempt})
    append_json_line(ledger, {"kind": "end", "step": 1, "seconds": {"reference": 450.0}, **attempt})
    (found,) = find_runs([run])
    # Device-hours: a step and a collection as before, and a quarter for the cache.
    assert [paid_by(found, point).device_seconds / 3600 for point in found.of_source("toy")] == [0.0, 1.5, 3.25]
    assert [row[1] for row in rows(wallclock.compare([found]))] == ["1.00", "1.25"]


def test_one_that_has_further_to_go_is_not_finished(tmp_path):
    run = read_run_in_rounds(in_rounds(tmp_path / "a", [1, 2], None))
    assert (run.method, run.finished) == ("fpa_offline, 2 rounds", False)
    assert not read_run_in_rounds(in_rounds(tmp_path / "b", [1, 2], [2, 3], rounds=3)).finished
    Rounds(3, "start", "last", "c", ended_after=2).write(tmp_path / "b")
    assert read_run_in_rounds(tmp_path / "b").finished


def test_a_pattern_finds_the_run_and_a_round_that_is_given_stands_alone(tmp_path):
    run = in_rounds(tmp_path / "fpa_seed0", [1, 2], [2, 3])
    make_run(tmp_path / "plain", [1, 2])
    assert [one.name for one in find_runs([tmp_path])] == ["fpa_seed0", "plain"]
    assert [one.method for one in find_runs([f"mine={tmp_path}/fpa_*"])] == ["mine"]
    assert [one.name for one in find_runs([f"{tmp_path}/**"])] == ["fpa_seed0", "plain"]
    assert [one.name for one in find_runs([run / "round_2"])] == ["fpa_seed0/round_2"]
    apart = find_runs([tmp_path], apart=True)
    assert [one.name for one in apart] == ["fpa_seed0/round_1", "fpa_seed0/round_2", "plain"]


def test_what_was_lost_of_a_ledger_is_named(tmp_path):
    run = in_rounds(tmp_path / "fpa", [1, 2], [2, 3])
    shutil.rmtree(run / "round_2" / "rollouts")
    assert "round_2/rollouts/ledger.jsonl is missing" in read_run_in_rounds(run).missing_cost


def test_rounds_on_different_devices_are_not_added_up(tmp_path):
    run = in_rounds(tmp_path / "fpa", [1, 2], [2, 3])
    file = run / "round_2" / RUN_FILE
    file.write_text(file.read_text().replace('"device": "H"\n', '"device": "A"\n'))
    assert read_run(run / "round_2").info["hardware"]["device"] == "A"
    with pytest.raises(MismatchError, match="its rounds ran on A and H"):
        read_run_in_rounds(run)


def test_before_the_first_step_there_is_no_run(tmp_path):
    Rounds(2, "start", "last", "c").write(tmp_path)
    assert round_folders(tmp_path) == []
    assert find_runs([tmp_path]) == []
    with pytest.raises(DatasetError, match="its first round has not begun"):
        read_run_in_rounds(tmp_path)
    (tmp_path / "rounds.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"rounds.json is damaged"):
        read_run_in_rounds(tmp_path)


def test_a_round_hands_over_its_best_model_or_its_last_snapshot(tmp_path):
    assert handed_over(tmp_path, "best") is handed_over(tmp_path, "last") is None
    best = keep(tmp_path / "best")
    for step in (2, 10):
        file = keep(tmp_path / "snapshots" / f"step_{step}") / "fpa_verl.json"
        file.write_text(f'{{"step": {step}, "attempt": 1}}')
    assert handed_over(tmp_path, "best") == best
    assert handed_over(tmp_path, "last").name == "step_10"


def test_start_from_a_run_in_rounds_takes_the_last_one_s_model(tmp_path):
    run = in_rounds(tmp_path / "fpa", [1, 2], [2, 3])
    for number in (1, 2):
        by = owed(run / f"round_{number}", 1, 1800.0)
        about = {"step": 1, "attempt": 1, "made_by": by.as_json()}
        (keep(run / f"round_{number}" / "snapshots" / "step_1", by) / "fpa_verl.json").write_text(json.dumps(about))
    assert model_of(str(run)) == run / "round_2" / "snapshots" / "step_1"


def test_a_last_round_that_gained_nothing_leaves_the_one_before_it_as_the_model(tmp_path):
    run = in_rounds(tmp_path / "fpa", [1, 2], [2, 2], hands_over="best", validation=([1, 2], [2, 2]))
    with pytest.raises(DatasetError, match="no best"):
        model_of(str(run))
    best = keep(run / "round_1" / "best", owed(run / "round_1", 1, 1800.0))
    assert model_of(str(run)) == best


def rows(comparison) -> list[list[str]]:
    (table,) = [table for table in comparison.tables() if table.header[0] == "round"]
    return table.rows


def test_a_table_has_cost_accuracy_and_gain_of_each_round_and_a_sentence_where_one_stops_paying(tmp_path):
    run = in_rounds(tmp_path / "fpa", [10, 50, 60], [60, 62, 62], of=100)
    comparison = wallclock.compare(find_runs([run]))
    first, second = rows(comparison)
    assert first[:4] == ["1", "1.00", "1.00", "60.0"]
    assert second[:4] == ["2", "1.00", "1.00", "62.0"]
    assert (first[5], second[5]) == ("+50.0", "+2.0")
    # 50 of 100 problems gained: far from 0. Two of 100 did: in some replicates neither is drawn.
    assert first[6].startswith("+4")
    assert second[6].startswith("+0.0 to ")
    assert any(
        note.startswith("fpa_offline, 2 rounds: round 2 stops paying: its gain of +2.0 points (+0.0 to ")
        and "for 2.00 device-hours" in note
        for note in comparison.notes()
    )
    (method,) = comparison.as_json()["methods"]
    assert [one["number"] for one in method["rounds"]] == [1, 2]
    assert method["rounds"][1]["gain"]["value"] == pytest.approx(0.02)


def test_a_round_that_loses_is_said_to_lose_and_one_that_nobody_measured_is_not_known(tmp_path):
    run = in_rounds(tmp_path / "fpa", [10, 60], [60, 20], of=100)
    notes = wallclock.compare(find_runs([run])).notes()
    assert any("fpa_offline, 2 rounds: round 2 loses: -40.0 points (" in note for note in notes)
    first = Round(1, 1.0, 1.0, Estimate(0.6, 0.5, 0.7, 1.0), None)
    (note,) = rounds_notes(SimpleNamespace(unit=("hours", "h", 1.0), rounds={"a": [first]}))
    assert "what round 1 gained is not known, for the model before was not evaluated" in note


def test_as_long_as_every_gain_is_above_0_none_stops_paying(tmp_path):
    run = in_rounds(tmp_path / "fpa", [10, 60], [60, 90], of=100)
    notes = wallclock.compare(find_runs([run])).notes()
    assert any("fpa_offline, 2 rounds: none of 2 rounds stopped paying" in note for note in notes)


def test_a_round_counts_with_the_model_that_it_handed_over(tmp_path):
    """Best at step 1 by its validation problems, and worse again at step 2."""
    run = in_rounds(
        tmp_path / "fpa", [10, 60, 50], [60, 70, 65], of=100, hands_over="best", validation=([1, 3, 2],) * 2
    )
    file = run / "round_2" / RUN_FILE
    file.write_text(file.read_text().replace('"step": 2', '"step": 1'))
    first, second = rows(wallclock.compare(find_runs([run])))
    # All that the first round spent was paid before the second began.
    assert (first[2:4], second[2:4]) == (["1.00", "60.0"], ["1.00", "70.0"])


def test_a_round_that_is_not_finished_has_no_line(tmp_path):
    run = in_rounds(tmp_path / "fpa", [10, 60], None, of=100)
    assert len(rows(wallclock.compare(find_runs([run])))) == 1


def test_seeds_of_one_command_are_seeds_of_one_method(tmp_path):
    for seed in (0, 1):
        in_rounds(tmp_path / f"fpa_seed{seed}", [1, 2], [2, 3])
    in_rounds(tmp_path / "fixed", [1, 2], [2, 3], reference="base")
    names = {curve.name: len(curve.runs) for curve in wallclock.compare(find_runs([tmp_path])).methods}
    assert names == {
        "fpa_offline, 2 rounds rounds_reference=start": 2,
        "fpa_offline, 2 rounds rounds_reference=base": 1,
    }


def test_whoever_follows_a_run_in_rounds_is_told_of_the_round_under_way(tmp_path):
    run = tmp_path / "fpa"
    Rounds(2, "start", "last", COMMAND).write(run)
    reader = Reader(run, since=0.0)
    assert str(reader.state(1000.0)) == "starting"
    in_rounds(run, [1, 2], [2, 3], validation=([1, 2], [2, 3]))
    for number in (1, 2):
        os.utime(round_folder(run, number) / LEDGER_FILE, (2e9 + number, 2e9 + number))
        assert reader.state(1000.0).doing == f"round {number} of 2, {read_run(round_folder(run, number)).name}"
