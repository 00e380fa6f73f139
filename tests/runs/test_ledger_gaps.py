"""A run of which the ledger lacks something must not look cheap.

A run of `make_run` pays 0.5 device-hours a step; its dataset cost 1.
"""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError
from fpa_verl.files import append_json_line
from fpa_verl.report.comparable import require_whole_cost
from fpa_verl.report.comparisons import cost, objectives, wallclock
from fpa_verl.report.watch import frame
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.ledger_gaps import missing_from_ledger
from fpa_verl.runs.record import record_evaluation
from fpa_verl.runs.run import read_run
from tests.runs.directories import make_run, outcomes

DATASET = {"fingerprint": "d", "device_seconds": 3600.0, "cost": {"device": "H", "devices": 1}}


@pytest.fixture
def fpa(tmp_path):
    make_run(tmp_path / "grpo", [1, 1, 2, 3], recipe="grpo_baseline", validation=[1, 1, 2, 3])
    return make_run(tmp_path / "fpa", [1, 2, 2, 4], dataset=DATASET, validation=[1, 1, 2, 3])


def rewrite(folder, change):
    """The ledger with other lines."""
    file = folder / "ledger.jsonl"
    file.write_text("".join(line + "\n" for line in change(file.read_text().splitlines())))


def gone(folder):
    (folder / "ledger.jsonl").unlink()


def without(*places):
    return lambda folder: rewrite(folder, lambda lines: [line for i, line in enumerate(lines) if i not in places])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (gone, "ledger.jsonl is missing"),
        (lambda folder: (folder / "ledger.jsonl").write_text(""), "ledger.jsonl has no record"),
        (lambda folder: (folder / "ledger.jsonl").write_text("\n\n"), "ledger.jsonl has no record"),
        (lambda folder: (folder / "ledger.jsonl").write_text('{"kind": "att'), "ledger.jsonl has no record"),
        # Line 0 is the attempt's, 1 to 3 are the steps'.
        (without(0), "ledger.jsonl does not say how attempt 1 began"),
        (without(1), "ledger.jsonl lacks 1 steps (the first is 1)"),
        (without(2), "ledger.jsonl lacks 1 steps (the first is 2)"),
        (without(1, 2), "ledger.jsonl lacks 2 steps (the first is 1)"),
        (without(2, 3), "ledger.jsonl ends at step 1, and step 3 was evaluated"),
        (without(1, 2, 3), "ledger.jsonl ends at step 0, and step 2 was evaluated"),
    ],
)
def test_a_run_with_a_gap_in_its_ledger_is_left_out(tmp_path, fpa, harm, said):
    harm(fpa)
    comparison = wallclock.compare(find_runs([tmp_path]), targets=[0.5])
    assert [run.name for run in comparison.runs] == ["grpo"]
    assert comparison.notes()[0] == f"Without the cost of some steps, and left out: fpa ({said})"
    (run,) = find_runs([fpa])
    with pytest.raises(
        DatasetError, match=r"fpa is without the cost of some steps .*put the whole ledger back"
    ) as error:
        wallclock.compare([run])
    assert said in str(error.value)
    with pytest.raises(DatasetError, match="without the cost of some steps"):
        require_whole_cost(run)
    assert f"fpa: {said}: its cost is not known" in cost.compare([run]).notes()
    # Its accuracy is what it was.
    assert [point.accuracy for point in run.of_source("toy")] == [0.25, 0.5, 0.5, 1.0]


def test_the_command_does_not_call_it_cheaper(tmp_path, fpa):
    gone(fpa)
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--target", "0.5"])
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "report" / "wallclock.json").read_text())
    assert [method["method"] for method in content["methods"]] == ["grpo_baseline"]
    assert "(ledger.jsonl is missing)" in (tmp_path / "report" / "wallclock.md").read_text()
    alone = CliRunner().invoke(app, ["report", str(fpa), "--target", "0.5"])
    assert (alone.exit_code, "ledger.jsonl is missing" in str(alone.exception or alone.output)) == (1, True)


def test_the_cost_of_a_phase_that_nobody_wrote_down_is_a_question(tmp_path, fpa):
    gone(fpa)
    row = cost.compare(find_runs([fpa])).phase_table().rows[0]
    # The dataset's cost is known.
    assert row[:2] == ["fpa", "60.00"]
    assert set(row[2:]) == {"?"}


def test_whether_it_came_to_its_end_is_lost_with_it(tmp_path, fpa):
    gone(fpa)
    with pytest.raises(DatasetError, match=r"fpa is not finished.*: put its ledger back \(ledger.jsonl is missing\)"):
        objectives.compare(find_runs([fpa]))
    notes = objectives.compare(find_runs([tmp_path])).notes()
    assert notes[:2] == [
        "Not finished, or never evaluated, and left out: fpa",
        "fpa: ledger.jsonl is missing: its cost is not known",
    ]


def test_a_watched_run_without_one_has_a_question_for_its_cost(tmp_path, fpa):
    gone(fpa)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(frame(find_runs([tmp_path]), 0.0))
    (line,) = (line for line in console.export_text().splitlines() if line.strip().startswith("fpa"))
    assert " ? " in line


def test_a_torn_last_line_is_normal_after_a_kill(tmp_path, fpa):
    """Step 3 was evaluated, and its record half written: what was spent by then counts."""
    rewrite(fpa, lambda lines: lines[:-1])
    with open(fpa / "ledger.jsonl", "a") as file:
        file.write('{"kind": "step", "time": 0, "atte')
    (run,) = find_runs([fpa])
    assert run.missing_cost == ""
    assert [point.device_seconds for point in run.of_source("toy")] == [0, 1800, 3600, 3600]
    # It goes on after step 2: the torn line is cut off, step 3 is done by the second attempt.
    append_json_line(fpa / "ledger.jsonl", {"kind": "attempt", "time": 0, "attempt": 2, "devices": 2})
    step = {"kind": "end", "time": 0, "attempt": 2, "step": 3, "seconds": {"training": 900.0}}
    append_json_line(fpa / "ledger.jsonl", step)
    record_evaluation(fpa, attempt=2, step=3, problems={"toy": outcomes(3)}, trained=True)
    again = read_run(fpa)
    assert again.missing_cost == ""
    assert (again.of_source("toy")[-1].device_seconds, again.of_source("toy")[-1].accuracy) == (5400, 0.75)


def test_a_torn_line_in_between_and_a_line_that_is_no_record_are_named(tmp_path, fpa):
    rewrite(fpa, lambda lines: [lines[0], lines[1][:20], *lines[2:]])
    with pytest.raises(DatasetError, match=r"fpa/ledger.jsonl, line 2 is damaged .*restore the file"):
        find_runs([fpa])
    for line in ("5", "null", '{"kind": "step"}'):
        rewrite(fpa, lambda lines, line=line: [lines[0], line, *lines[2:]])
        with pytest.raises(DatasetError, match=r"ledger.jsonl, record 2 is none of a ledger: restore the file"):
            find_runs([fpa])


def ledger(*attempts):
    """Records of attempts, given by their numbers and steps."""
    found = []
    for number, steps in attempts:
        found.append({"kind": "attempt", "attempt": number})
        found += [{"kind": "step", "attempt": number, "step": step} for step in steps]
    return found


@pytest.mark.parametrize(
    ("records", "evaluations", "said"),
    [
        # Went on after step 10 when it had reached 13; and after a kill before the first step.
        (ledger((1, range(1, 14)), (2, range(11, 21))), [(1, 10), (2, 20)], ""),
        (ledger((1, []), (2, range(1, 4))), [(1, 0), (2, 3)], ""),
        (ledger((1, range(1, 11)), (2, [])), [(1, 10), (2, 10), (2, 11)], ""),
        # Step 11 was saved and the run killed before it was written down: what it cost is lost, as after any kill.
        (ledger((1, range(1, 11)), (2, range(12, 21))), [(1, 11), (2, 20)], ""),
        (ledger((1, range(1, 11)), (2, [])), [(2, 12)], ""),
        (ledger((1, range(1, 11)), (2, range(13, 21))), [], "lacks 2 steps (the first is 11)"),
        (ledger((1, range(1, 11)), (2, [8, 10, 11])), [], "lacks 1 steps (the first is 9)"),
        (ledger((1, range(1, 11)), (3, range(11, 21))), [], "does not say how attempt 2 began"),
        (ledger((2, range(11, 21))), [], "does not say how attempt 1 began"),
        (ledger((1, range(1, 11))), [(2, 15)], "does not say how attempt 2 began"),
        (ledger((1, range(1, 11)), (2, [])), [(2, 20)], "ends at step 10, and step 20 was evaluated"),
        (ledger((1, [2, 3, 4])), [], "lacks 1 steps (the first is 1)"),
        # `recipe=evaluate` has no step but 0; a run that has only begun lacks nothing.
        (ledger((1, [0, 0])), [(1, 0)], ""),
        ([], [], ""),
    ],
)
def test_what_a_ledger_lacks(records, evaluations, said):
    assert missing_from_ledger(records, evaluations) == said
