"""Runs that offline wandb wrote in several folders, for they were killed and resumed under one id.

A step costs 140 device-seconds, the first record of an attempt 148: what the clock said before is not known. Step 0 and
1 to 13, then, after a kill, 11 to 20 are 13 x 140 = 1,820 and 148 + 9 x 140 = 1,408.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from fpa_verl.errors import DatasetError
from fpa_verl.report.comparisons import wallclock
from fpa_verl.runs.find import find_runs
from tests.runs.verl_steps import BEFORE, steps, write_wandb

pytest.importorskip("wandb")

FIRST, SECOND = [BEFORE, *steps(1, 13)], steps(11, 20)
# Step to accuracy and device-seconds: at 20 steps 11 to 13 were paid for twice.
WHOLE = {0: (0.2, 0), 5: (0.4, 700), 10: (0.55, 1400), 15: (0.6, 1820 + 708), 20: (0.66, 1820 + 1408)}


@pytest.fixture
def halves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [write_wandb(Path("work"), FIRST, began_at=100), write_wandb(Path("work"), SECOND, began_at=200)]


def found(*given):
    """Of every run, step to accuracy and device-seconds."""
    return [
        {point.step: (point.accuracy, round(point.device_seconds)) for point in run.points}
        for run in find_runs(given, "H")
    ]


def test_both_halves_are_one_run(halves):
    (run,) = find_runs(["work"], "H")
    assert run.spending.devices == [4, 4]
    assert found("work") == [WHOLE]
    assert wallclock.compare([run], targets=[0.66]).times[0].hours["device"].value == pytest.approx(3228 / 3600)
    assert "3 steps were done again by a later attempt (the first is 11) and count twice" in "".join(run.caveats)
    assert run.files == halves


@pytest.mark.parametrize(
    "given",
    [
        ["work/wandb"],
        ["work/wandb/*-abc"],
        ["work/wandb/offline-run-20260101_000100-abc"],
        ["work/wandb/offline-run-20260101_000200-abc"],
        ["work/wandb/*000200*"],
        ["work/**/offline-run-*000100-abc/*.wandb"],
        ["work/wandb/offline-run-20260101_000200-abc/run-abc.wandb"],
        [f"work/wandb/offline-run-20260101_000{n}00-abc/run-abc.wandb" for n in (2, 1)],
        ["work/wandb/offline-run-20260101_000100-abc", "work"],
        ["work/wandb/latest-run"],
        ["work/wandb/latest-run", "work/wandb/*"],
        ["work/wandb/latest-run/run-abc.wandb"],
    ],
)
def test_however_it_is_named_it_is_the_whole_run(halves, given):
    Path("work/wandb/latest-run").symlink_to(halves[1].parent.name)
    assert found(*given) == [WHOLE]


def test_tensorboard_s_files_of_the_same_halves_tell_the_same(halves, tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    for number, (half, began_at) in enumerate([(FIRST, 100), (SECOND, 200)]):
        with tensorboard.SummaryWriter("exp", filename_suffix=f".{number}") as writer:
            for place, (step, data) in enumerate(half):
                for name, value in data.items():
                    writer.add_scalar(name, value, step, walltime=began_at + place)
    assert found("exp") == found("work") == [WHOLE]


def test_halves_under_names_are_one_run_under_the_first(halves):
    runs = find_runs([f"a={halves[1]}", f"b={halves[0]}"], "H")
    assert [(run.method, len(run.files)) for run in runs] == [("a", 2)]


def test_three_attempts_and_one_that_logged_nothing(halves):
    write_wandb(Path("work"), [], began_at=300)
    write_wandb(Path("work"), steps(19, 25), began_at=400)
    empty = Path("work/wandb/offline-run-20260101_000500-abc/run-abc.wandb")
    empty.parent.mkdir()
    empty.touch()
    (run,) = find_runs(["work"], "H")
    assert run.spending.devices == [4, 4, 4]
    # Steps 11 to 13, 19 and 20 twice.
    assert run.spending.cost.device_seconds == pytest.approx(1820 + 1408 + 148 + 6 * 140)
    assert run.spending.last_step == 25
    assert found("work/wandb/*000100*") == found(str(empty)) == found("work")


def test_attempts_follow_in_the_order_of_time_and_not_of_names(tmp_path):
    write_wandb(tmp_path, SECOND, began_at=200, day="20251231")
    write_wandb(tmp_path, FIRST, began_at=100, day="20260101")
    assert found(tmp_path) == [WHOLE]


def test_a_run_begun_anew_under_its_id_was_paid_for_twice(tmp_path):
    """No checkpoint was finished when it was killed after step 7: 7 x 140 = 980."""
    write_wandb(tmp_path, [BEFORE, *steps(1, 7)], began_at=100)
    write_wandb(tmp_path, [BEFORE, *steps(1, 10)], began_at=200)
    assert found(tmp_path) == [{0: (0.2, 0), 5: (0.4, 700), 10: (0.55, 980 + 1400)}]


def test_other_runs_beside_it_are_their_own(halves):
    write_wandb(Path("work"), FIRST, began_at=150, run_id="abcd")
    write_wandb(Path("work"), FIRST, began_at=250, run_id="x-abc")
    # The same id in another project that logs into the same folder.
    write_wandb(Path("work"), FIRST, began_at=350, project="other")
    sizes = sorted(len(run.files) for run in find_runs(["work"], "H"))
    assert sizes == [1, 1, 1, 2]
    assert len(find_runs(["work/wandb/*-abcd"], "H")) == 1


@pytest.mark.parametrize("project", ["p", "other"])
def test_the_same_id_in_two_folders_is_two_runs(halves, project):
    write_wandb(Path("elsewhere"), FIRST, began_at=150, project=project)
    write_wandb(Path("elsewhere"), SECOND, began_at=250, project=project)
    assert found("work", "elsewhere") == [WHOLE, WHOLE]
    assert found("elsewhere/wandb/*000250*") == [WHOLE]


def test_a_second_half_in_another_folder_goes_on_from_the_first(tmp_path):
    """The job went on on another machine, whose folder is a new one."""
    write_wandb(tmp_path / "a", FIRST, began_at=100)
    write_wandb(tmp_path / "b", SECOND, began_at=200)
    assert found(tmp_path) == found(tmp_path / "b", tmp_path / "a") == [WHOLE]
    # Alone it lacks the cost of steps 1 to 10.
    with pytest.raises(DatasetError, match="without the cost of some steps: give the log of the whole run"):
        wallclock.compare(find_runs([tmp_path / "b"], "H"))
    # Of two that it may go on from nobody knows which it was.
    write_wandb(tmp_path / "c", FIRST, began_at=101)
    assert sorted(len(run.files) for run in find_runs([tmp_path], "H")) == [1, 1, 1]


def test_files_that_were_taken_out_of_their_folders(halves):
    """Two runs that chose one id, and the second half of the first of them."""
    other = write_wandb(Path("elsewhere"), steps(1, 5), began_at=150)
    for name, file in {"a": halves[0], "b": other, "c": halves[1]}.items():
        (Path("flat") / name).mkdir(parents=True)
        shutil.copy(file, Path("flat") / name / "run-abc.wandb")
    # Steps 11 and later go on from 13, and not from 5.
    assert found("flat/a", "flat/b/run-abc.wandb", "flat/c") == [WHOLE, {5: (0.4, 708)}]


@pytest.mark.parametrize(("project", "first"), [("other", 11), ("p", 16)])
def test_what_does_not_go_on_from_it_is_no_second_half(tmp_path, project, first):
    write_wandb(tmp_path / "a", FIRST, began_at=100)
    write_wandb(tmp_path / "b", steps(first, 20), began_at=200, project=project)
    comparison = wallclock.compare(find_runs([tmp_path], "H"))
    assert [len(run.files) for run in comparison.runs] == [1]
    assert comparison.notes()[0].startswith("Without the cost of some steps, and left out: grpo (wandb)")


def test_a_run_that_verl_resumed_has_a_new_id(tmp_path):
    """verl gives wandb no id: project and name are the same, and the steps go on."""
    write_wandb(tmp_path, FIRST, began_at=100, run_id="k3j2")
    write_wandb(tmp_path, SECOND, began_at=200, run_id="x9ab")
    assert found(tmp_path) == [WHOLE]
    assert found(*sorted(tmp_path.glob("wandb/*"), reverse=True)) == [WHOLE]
    # Of two seeds that have one name, nobody knows which it goes on from.
    write_wandb(tmp_path, FIRST, began_at=150, run_id="b7cd")
    assert sorted(len(run.files) for run in find_runs([tmp_path], "H")) == [1, 1, 1]


def test_a_copy_counts_once(halves):
    shutil.copytree("work", "copy")
    assert found("work", "copy") == [WHOLE]
    # An older copy of the second half, from when it was at step 14.
    write_wandb(Path("copy"), steps(11, 14), began_at=200)
    assert found("copy", "work") == [WHOLE]


def test_a_step_between_the_halves_that_is_missing(tmp_path):
    write_wandb(tmp_path, FIRST, began_at=100)
    write_wandb(tmp_path, steps(15, 20), began_at=200)
    (run,) = find_runs([tmp_path], "H")
    assert run.missing_steps == [14]


def test_without_wandb_it_is_named(halves, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb.proto", None)
    for half in halves:
        half.touch()
        half.write_bytes(half.read_bytes() + b"\0")
    with pytest.raises(DatasetError, match="pip install wandb"):
        find_runs(["work"])
