"""Tables and figure of what was foreseen, and what reports make of runs that find lambda on the way."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError
from fpa_verl.files import append_json_line
from fpa_verl.report.comparisons import dynamics, lambdas
from fpa_verl.report.figures.drawing import draw
from fpa_verl.report.paper.rows import method_of
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.run import read_run
from tests.runs.directories import make_run, settings


def log(run, by_step):
    for step, values in by_step.items():
        # Of a run that began at its step 0.
        linear = {
            f"{name.removesuffix('steps')}linear": ahead_ / (step - ahead_)
            for name, ahead_ in values.items()
            if name.endswith("/steps")
        }
        values = values | linear
        data = {"dynamics/right/policy_weight": 0.1, **{f"foresight/{name}": one for name, one in values.items()}}
        append_json_line(run / "metrics.1.jsonl", {"step": step, "data": data})


def ahead(horizon, steps, lam, explained, predicts=1.0, **more):
    values = {"steps": steps, "lambda": lam, "lambda_error": 0.1, "explained": explained, "spread": 0.5} | more
    return {f"{horizon}/{name}": value for name, value in {**values, "predicts": predicts}.items()}


@pytest.fixture
def runs(tmp_path):
    """Looks at 10, 20 and 30 of two seeds with a lambda of their own, and of a run that finds it."""
    own = {"own": 2.0, "explained_by_own": -0.25, "weight_correlation": 0.875}
    for seed, lam in enumerate((0.5, 1.0)):
        run = make_run(tmp_path / f"fpa_{seed}", [1], seed=seed)
        sides = {"right/lambda": lam, "wrong/lambda": 2 * lam}
        log(run, {10: {"seconds": 1.0}, 20: ahead(1, 10, lam, 0.75, **sides, **own)})
        log(run, {30: {**ahead(1, 10, 0.25, 0.05, 0.0, **own), **ahead(2, 20, 1.5, 0.5, **own)}})
    auto = make_run(tmp_path / "auto", [1], training=settings(lam="auto"))
    log(auto, {step: {"lambda": 2.0} for step in range(1, 20)})
    log(auto, {20: {"lambda": 2.0, "found": 0.8, **ahead(1, 10, 0.8, 0.9)}})
    log(auto, {step: {"lambda": 0.8} for step in range(21, 31)})
    return tmp_path


def test_a_row_is_what_one_step_said_of_another(runs):
    *_, best, own, found = dynamics.compare(find_runs([runs])).tables()
    assert best.header[1:6] == ["steps", "linear", "best", "± s.e.", "share"]
    # Means of two seeds; a lambda that predicts nothing in brackets.
    assert of_method(best, "2.0") == [
        ["10 to 20", "1.00", "0.75", "0.10", "0.75", "0.50", "0.75", "1.50"],
        ["20 to 30", "0.50", "(0.25)", "0.10", "0.05", "0.50", "-", "-"],
        ["10 to 30", "2.00", "1.50", "0.10", "0.50", "0.50", "-", "-"],
    ]
    assert of_method(best, "auto") == [["10 to 20", "1.00", "0.80", "0.10", "0.90", "0.50", "-", "-"]]
    assert of_method(own, "2.0")[0] == ["10 to 20", "2.00", "-0.25", "0.88"]
    assert not of_method(own, "auto")
    assert [row[1:] for row in found.rows] == [["1 to 20", "2.00"], ["21 to 30", "0.80"]]


def of_method(table, lam):
    return [row[1:] for row in table.rows if row[0].endswith(f"lam={lam}")]


def test_the_figure_has_what_was_best_and_what_was_linear(runs):
    figures = draw(dynamics.compare(find_runs([runs])))
    assert list(figures) == ["dynamics", "foresight"]
    best, sides, explained = figures["foresight"].axes
    curves = [line.get_ydata().tolist() for line in best.lines]
    for expected in ([0.75, 0.25], [1.5], [1.0, 0.5], [2.0] * 20 + [0.8] * 10):
        assert expected in curves
    assert [0.75] in [line.get_ydata().tolist() for line in sides.lines]
    assert [0.75, 0.05] in [line.get_ydata().tolist() for line in explained.lines]


def test_runs_that_never_looked_have_neither(tmp_path):
    log(make_run(tmp_path / "a", [1]), {1: {}, 2: {"seconds": 0.5}})
    comparison = dynamics.compare(find_runs([tmp_path]))
    assert len(comparison.tables()) == 1
    assert list(draw(comparison)) == ["dynamics"]


def test_the_command_draws_it(runs):
    done = CliRunner().invoke(app, ["report", str(runs), "--compare", "dynamics"])
    assert done.exit_code == 0, done.output
    assert (runs / "report" / "foresight.png").read_bytes().startswith(b"\x89PNG")
    assert "Did the future policy come true" in (runs / "report" / "dynamics.md").read_text()


def test_a_lambda_found_on_the_way_is_no_point_of_a_sweep_and_no_row_of_the_paper(tmp_path):
    auto = make_run(tmp_path / "auto", [1, 1], validation=[1, 1], training=settings(lam="auto"))
    with pytest.raises(DatasetError, match="no run with a lambda"):
        lambdas.compare(find_runs([tmp_path]))
    make_run(tmp_path / "two", [1, 1], validation=[1, 1])
    (sweep,) = lambdas.compare(find_runs([tmp_path])).sweeps
    assert list(sweep.by_lambda) == [2.0]
    assert method_of(read_run(auto)) is None
    for compare in ("claims", "objectives", "paper", "wallclock"):
        done = CliRunner().invoke(app, ["report", str(tmp_path), "--compare", compare])
        assert done.exit_code == 0, (compare, done.output)
