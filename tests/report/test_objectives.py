"""Which settings and which step count, and that runs are put together by seed."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError
from fpa_verl.report.comparisons import objectives
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.run import read_run
from fpa_verl.runs.validation import best_step
from tests.runs.directories import INFO, make_run, settings


def compare(folder, **more):
    return objectives.compare(find_runs([folder]), **more)


def test_seeds_of_one_recipe_make_one_row_with_their_spread(tmp_path):
    for seed, right in enumerate((2, 3, 4)):
        make_run(tmp_path / f"fpa{seed}", [1, right], validation=[1, 2], seed=seed)
    make_run(tmp_path / "off", [1, 1], validation=[1, 1], recipe="off_rl", training=settings(objective="off_rl"))
    table = compare(tmp_path).tables()[0]
    assert table.header == ["recipe", "seeds", "toy", "best val.", "validation", "device-min"]
    # 50, 75 and 100 %: standard deviation 25.
    assert table.rows == [
        ["fpa_offline", "3", "75.0 ± 25.0", "75.0 ± 25.0", "50.0", "30.00"],
        ["off_rl", "1", "25.0", "25.0", "25.0", "30.00"],
    ]


def test_settings_are_chosen_on_validation_and_never_on_the_test_problems(tmp_path):
    # The higher test accuracy stands with the lower validation accuracy.
    make_run(tmp_path / "a", [1, 4], validation=[1, 2])
    make_run(tmp_path / "b", [1, 2], validation=[1, 3], training=settings(learning_rate=3e-6))
    make_run(tmp_path / "b2", [1, 3], validation=[1, 3], training=settings(learning_rate=3e-6), seed=1)
    found = compare(tmp_path)
    (choice,) = found.choices
    assert choice.settings == {"learning_rate": 3e-6}
    assert [run.name for run in choice.chosen.runs] == ["b", "b2"]
    assert found.tables()[1].rows == [["fpa_offline", "2", "learning_rate=3e-06"]]


def test_several_settings_without_validation_are_refused(tmp_path):
    only = {**INFO["evaluation"], "problem_sets": {"toy": "e"}}
    make_run(tmp_path / "a", [1, 4], evaluation=only)
    make_run(tmp_path / "b", [1, 2], evaluation=only, training=settings(lam=5.0))
    with pytest.raises(
        DatasetError, match=r"several settings \(hyper_parameters.lam 2.0 or 5.0\).*without an evaluation"
    ):
        compare(tmp_path)


def test_best_step_is_the_earliest_of_the_highest_validation_accuracy(tmp_path):
    make_run(tmp_path / "a", [1, 2, 4, 3], validation=[1, 3, 3, 2])
    assert best_step(read_run(tmp_path / "a")) == 1
    (choice,) = compare(tmp_path).choices
    assert choice.chosen.accuracies("toy") == [0.75]
    assert choice.chosen.accuracies("toy", best=True) == [0.5]


def test_several_problem_sets_are_averaged(tmp_path):
    sets = {**INFO["evaluation"], "problem_sets": {"toy": "e", "other": "o", "toy/validation": "v"}}
    run = make_run(tmp_path / "a", [1, 4], validation=[1, 2], evaluation=sets)
    from fpa_verl.runs.record import record_evaluation
    from tests.runs.directories import outcomes

    for step, right in enumerate((0, 2)):
        record_evaluation(run, attempt=1, step=step, problems={"other": outcomes(right)})
    table = compare(tmp_path).tables()[0]
    assert table.header == ["recipe", "seeds", "toy", "other", "mean", "best val.", "validation", "device-min"]
    assert table.rows[0][2:5] == ["100.0", "50.0", "75.0"]
    assert compare(tmp_path, data_source="other").tables()[0].rows[0][2] == "50.0"


def test_an_unfinished_run_is_left_out_and_named(tmp_path):
    make_run(tmp_path / "a", [1, 1], validation=[1, 1], finished=False)
    with pytest.raises(DatasetError, match="a is not finished, or never evaluated"):
        compare(tmp_path)
    make_run(tmp_path / "b", [1, 4], validation=[1, 4], seed=1)
    found = compare(tmp_path)
    assert found.tables()[0].rows[0][1:3] == ["1", "100.0"]
    assert found.notes()[0] == "Not finished, or never evaluated, and left out: a"


def test_another_dataset_is_another_configuration(tmp_path):
    for name, right in (("d1", 2), ("d2", 3)):
        dataset = {"fingerprint": name, "device_seconds": 1.0, "cost": {"device": "H"}}
        make_run(tmp_path / name, [1, right], validation=[1, right], dataset=dataset)
    (choice,) = compare(tmp_path).choices
    assert choice.candidates == 2
    assert choice.settings == {"dataset": "d2"}


def test_a_step_that_lacks_a_validation_set_is_no_candidate(tmp_path):
    run = make_run(tmp_path / "a", [1, 2, 2], validation=[1, 2, 3])
    lines = (run / "evaluations.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not ('"step": 2' in line and "toy/validation" in line)]
    (run / "evaluations.jsonl").write_text("".join(kept))
    assert best_step(read_run(run)) == 1


def test_command_writes_figure_markdown_and_json(tmp_path):
    for seed in range(2):
        make_run(tmp_path / f"fpa{seed}", [1, 2 + seed], validation=[1, 2], seed=seed)
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--compare", "objectives"])
    assert done.exit_code == 0, done.output
    assert "One seed only" not in done.output
    assert (tmp_path / "report" / "objectives.png").read_bytes().startswith(b"\x89PNG")
    assert "| fpa_offline | 2 | 62.5 ± 17.7 |" in (tmp_path / "report" / "objectives.md").read_text()
    (row,) = json.loads((tmp_path / "report" / "objectives.json").read_text())["recipes"]
    assert row["accuracy"] == {"toy": [0.5, 0.75]}
    assert row["standard_deviation"] == pytest.approx(0.125 * 2**0.5)
