from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError
from fpa_verl.files import append_json_line
from fpa_verl.report.comparisons import dynamics
from fpa_verl.report.figures.drawing import draw
from fpa_verl.report.statistics.series import read_series
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.run import read_run
from tests.runs.directories import make_run


def log(run, attempt, steps, **values):
    for step in steps:
        data = {f"dynamics/{name}": value * step for name, value in values.items()}
        append_json_line(run / f"metrics.{attempt}.jsonl", {"step": step, "data": {**data, "actor/grad_norm": 1.0}})


SLOPES = {"right/log_prob_change": 0.1, "wrong/log_prob_change": -1.0, "wrong/policy_weight": 0.01}


def test_the_tail_is_the_last_tenth(tmp_path):
    run = make_run(tmp_path / "a", [1])
    log(run, 1, range(1, 21), **SLOPES)
    series = read_series(read_run(run))
    assert series.tail("dynamics/wrong/log_prob_change") == pytest.approx(-19.5)
    assert series.tail("dynamics/wrong/weight_ratio") is None
    (table,) = dynamics.compare(find_runs([tmp_path])).tables()
    assert table.rows == [["a", "1.95", "-19.50", "-", "0.20", "-", "1.00"]]


def test_a_step_done_again_counts_as_it_was_done_last(tmp_path):
    run = make_run(tmp_path / "a", [1])
    log(run, 1, range(1, 4), **SLOPES)
    log(run, 10, range(2, 6), **{"right/log_prob_change": 5.0})
    log(run, 2, range(2, 5), **{"right/log_prob_change": 7.0})
    assert read_series(read_run(run)).get("right", "log_prob_change") == {
        1: 0.1,
        2: 10.0,
        3: 15.0,
        4: 20.0,
        5: 25.0,
    }


def test_runs_without_dynamics_are_left_out_unless_alone(tmp_path):
    log(make_run(tmp_path / "a", [1]), 1, [1], **SLOPES)
    make_run(tmp_path / "grpo", [1], recipe="grpo_baseline")
    assert [series.run.name for series in dynamics.compare(find_runs([tmp_path])).series] == ["a"]
    with pytest.raises(DatasetError, match="logged no training dynamics"):
        dynamics.compare(find_runs([tmp_path / "grpo"]))


def test_command_draws_and_says_where_the_reference_is_missing(tmp_path):
    log(make_run(tmp_path / "a", [1]), 1, range(1, 4), **{"right/policy_weight": 0.1, "wrong/policy_weight": 0.1})
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--compare", "dynamics"])
    assert done.exit_code == 0, done.output
    assert "track_reference=true" in done.output
    assert (tmp_path / "report" / "dynamics.png").read_bytes().startswith(b"\x89PNG")
    (run,) = json.loads((tmp_path / "report" / "dynamics.json").read_text())["runs"]
    assert run["metrics"]["dynamics/right/policy_weight"] == {"1": 0.1, "2": 0.2, "3": pytest.approx(0.3)}


def log_mixing(run, steps, alpha):
    """Measurements of both gradients at some steps, of a run that logs its dynamics at all of them."""
    log(run, 1, range(1, 41), **SLOPES)
    for step in steps:
        known = {"alpha": alpha, "alpha_error": 0.05, "trace_variance": 0.2, "trace_bias": -0.01, "cross_bias": 0.0}
        known |= {"empty_bias": 0.3, "empty_variance": 0.1, "trace_error": 0.2, "empty_error": 0.4, "error": 0.15}
        data = {f"mixing/{name}": value for name, value in known.items()}
        append_json_line(run / "metrics.1.jsonl", {"step": step, "data": data})


def test_gradients_that_are_mixed_have_a_table_and_a_figure(tmp_path):
    log_mixing(make_run(tmp_path / "bvpo", [1], recipe="bvpo"), (1, 21), 0.6)
    log(make_run(tmp_path / "plain", [1]), 1, range(1, 41), **SLOPES)
    comparison = dynamics.compare(find_runs([tmp_path]))
    table = comparison.tables()[-1]
    assert table.header[:3] == ["run", "alpha", "± s.e."]
    assert table.rows == [["bvpo", "0.6", "0.05", "0.2", "-0.01", "0.1", "0.3", "0.75"]]
    figures = draw(comparison)
    assert list(figures) == ["dynamics", "mixing"]
    weight, parts = figures["mixing"].axes
    assert weight.lines[0].get_ydata().tolist() == [0.6, 0.6]
    assert weight.lines[0].get_xdata().tolist() == [1, 21]
    # A squared bias whose estimate is negative lies on the axis.
    assert len(parts.lines) == 4
    assert all((line.get_ydata() > 0).all() for line in parts.lines)


def test_runs_without_a_mix_have_neither(tmp_path):
    log(make_run(tmp_path / "plain", [1]), 1, range(1, 41), **SLOPES)
    comparison = dynamics.compare(find_runs([tmp_path]))
    assert list(draw(comparison)) == ["dynamics"]
    assert not any("traces alone" in table.caption for table in comparison.tables())
