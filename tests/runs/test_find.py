"""Which run directories a command line names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError
from fpa_verl.report.output import report_folder
from fpa_verl.report.statistics.arms import arms_of, labels
from fpa_verl.runs.find import find_runs
from tests.runs.directories import make_run, settings


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("fpa_seed0", "fpa_seed1", "off_seed0", "deep/er/fpa_seed2"):
        recipe = "off_rl" if name.startswith("off") else "fpa_offline"
        make_run(Path("runs") / name, [1, 2], recipe=recipe, seed=int(name[-1]))
    (tmp_path / "runs" / "fpa_seed0.log").write_text("a file that a shell's pattern takes along")
    return tmp_path


def names(*given):
    return [run.name for run in find_runs(given)]


def test_patterns_quoted_and_expanded_name_the_same_runs(sweep):
    expanded = sorted(map(str, Path("runs").glob("fpa*")))
    assert "runs/fpa_seed0.log" in expanded
    assert names("runs/fpa*") == names(*expanded) == ["fpa_seed0", "fpa_seed1"]
    assert names("runs/**/fpa_seed2") == ["fpa_seed2"]
    # What is named twice counts once.
    assert names("runs", "runs/*seed*") == ["fpa_seed2", "fpa_seed0", "fpa_seed1", "off_seed0"]


def test_what_recipe_evaluate_left_is_no_run_to_compare(sweep):
    file = make_run(Path("runs/evaluated"), [1]) / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "kind": "evaluation"}))
    assert "evaluated" not in names("runs")


def test_a_name_puts_runs_together(sweep):
    found = find_runs(["mine=runs/fpa*", "runs/off_seed0"])
    assert [run.method for run in found] == ["mine", "mine", "off_rl"]
    assert [len(one.runs) for one in arms_of(found)] == [2, 1]


def test_a_folder_with_an_equals_sign_is_a_folder(sweep):
    make_run(Path("lam=1"), [1])
    (run,) = find_runs(["lam=1"])
    assert (run.name, run.method) == ("lam=1", "fpa_offline")


def test_settings_are_in_the_label_only_where_they_differ(sweep):
    make_run(Path("other"), [1], training=settings(lam=5.0))
    found = arms_of(find_runs(["runs", "other"]))
    assert labels(found) == ["fpa_offline lam=2.0", "off_rl", "fpa_offline lam=5.0"]
    make_run(Path("old"), [1], training=None)
    found = arms_of(find_runs(["runs", "old"]))
    assert labels(found) == ["fpa_offline", "off_rl", "fpa_offline (settings not recorded)"]


def test_where_the_report_goes(sweep):
    assert report_folder(["runs"], find_runs(["runs"])) == Path("runs/report")
    assert report_folder(["runs/fpa*"], find_runs(["runs/fpa*"])) == sweep / "runs" / "report"


def test_a_pattern_that_matches_nothing_is_an_error(sweep):
    with pytest.raises(DatasetError, match=r"no folder at runs/dpo\*"):
        find_runs(["runs/dpo*"])


def test_command_takes_patterns(sweep):
    done = CliRunner().invoke(app, ["report", "FPA=runs/fpa*", "runs/off*", "--target", "0.5"])
    assert done.exit_code == 0, done.output
    assert "FPA" in done.output
    assert (sweep / "runs" / "report" / "wallclock.md").exists()
