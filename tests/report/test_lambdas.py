from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError
from fpa_verl.report.comparisons import lambdas
from fpa_verl.runs.find import find_runs
from tests.runs.directories import make_run, settings


def off_rl(**changes):
    training = settings(objective="off_rl", **changes)
    return {"recipe": "off_rl", "training": {**training, "hyper_parameters": {}}}


@pytest.fixture
def sweep(tmp_path):
    for lam, right, validation in ((1.0, 2, 2), (2.0, 3, 4), (5.0, 4, 3)):
        for seed in range(2):
            make_run(
                tmp_path / f"fpa_{lam:g}_{seed}",
                [1, right],
                validation=[1, validation],
                training=settings(lam=lam),
                seed=seed,
            )
    return tmp_path


def test_one_row_a_lambda_and_validation_marks_the_choice(sweep):
    (table,) = lambdas.compare(find_runs([sweep])).tables()
    assert table.rows == [
        ["fpa", "1", "2", "50.0 ± 0.0", "50.0 "],
        ["fpa", "2", "2", "75.0 ± 0.0", "100.0*"],
        ["fpa", "5", "2", "100.0 ± 0.0", "75.0 "],
    ]


def test_off_rl_at_the_same_settings_stands_at_zero(sweep):
    make_run(sweep / "off", [1, 1], validation=[1, 1], **off_rl())
    make_run(sweep / "off_other_lr", [1, 4], validation=[1, 1], **off_rl(learning_rate=1e-3))
    (found,) = lambdas.compare(find_runs([sweep])).sweeps
    assert list(found.by_lambda) == [0.0, 1.0, 2.0, 5.0]
    assert [run.name for run in found.by_lambda[0.0].runs] == ["off"]


def test_other_settings_make_another_sweep(sweep):
    make_run(sweep / "high_lr", [1, 1], validation=[1, 1], training=settings(lam=1.0, learning_rate=1e-3))
    assert [found.label for found in lambdas.compare(find_runs([sweep])).sweeps] == ["fpa (1)", "fpa (2)"]


def test_runs_without_recorded_settings_stand_in_no_sweep(sweep):
    make_run(sweep / "old", [1, 1], validation=[1, 1], training=None)
    make_run(sweep / "own", [1, 1], validation=[1, 1], training={"objective": "mine", "hyper_parameters": {"lam": 1.0}})
    assert [found.label for found in lambdas.compare(find_runs([sweep])).sweeps] == ["fpa", "mine"]


def test_without_a_lambda_it_says_how_to_make_some(tmp_path):
    make_run(tmp_path / "off", [1, 1], **off_rl())
    with pytest.raises(DatasetError, match=r"policy_loss\.lam=0\.5,1,2,5"):
        lambdas.compare(find_runs([tmp_path]))


def test_command_writes_figure_markdown_and_json(sweep):
    done = CliRunner().invoke(app, ["report", str(sweep), "--compare", "lambda"])
    assert done.exit_code == 0, done.output
    assert (sweep / "report" / "lambda.png").read_bytes().startswith(b"\x89PNG")
    (content,) = json.loads((sweep / "report" / "lambda.json").read_text())["sweeps"]
    assert [point["lambda"] for point in content["points"]] == [1.0, 2.0, 5.0]
