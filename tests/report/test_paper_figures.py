"""The paper's figures from made-up runs: which panels, which curves, their numbers, and what is said to be missing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.files import append_json_line
from fpa_verl.report.comparisons import paper_figures
from fpa_verl.runs.find import find_runs
from tests.runs.directories import INFO, make_run, settings

DATA = {"fingerprint": "d", "device_seconds": 7200.0, "cost": {}, "counts": {}}


def run(folder, recipe, accuracies, *, metrics=None, dataset=DATA, **changes):
    """A run of 4 problems that took 900 s of two devices a step; metrics are told as value a step."""
    objective = {"training": settings(objective="off_rl", hyper_parameters={})} if recipe.startswith("off_rl") else {}
    made = make_run(folder, accuracies, recipe=recipe, dataset=dataset, **{**objective, **changes})
    for step in range(1, len(accuracies)):
        data = {name: value * step for name, value in (metrics or {}).items()}
        append_json_line(made / "metrics.1.jsonl", {"step": step, "data": data})
    return made


def sided(name, right, wrong):
    return {f"dynamics/right/{name}": right, f"dynamics/wrong/{name}": wrong}


@pytest.fixture
def everything(tmp_path):
    weights = sided("policy_weight", 0.2, 0.4) | sided("future_weight", 0.3, 0.1)
    low = sided("low_policy_weight", 0.0, 0.1) | sided("low_future_weight", 0.0, 0.2)
    seen = {**sided("log_prob_change", -1.0, -4.0), **weights, **low, "actor/grad_norm": 3.0}
    for recipe in ("off_rl", "off_rl_prolonged", "fpa_offline_prolonged", "fpa_correct_only", "fpa_incorrect_only"):
        run(tmp_path / recipe, recipe, [1, 2, 1], metrics={**seen, **sided("gradient_norm", 2.0, 5.0)})
    # Two seeds, of which one falls twice as fast.
    run(tmp_path / "fpa_0", "fpa_offline", [1, 3, 4], metrics=seen)
    twice = {name: 2 * value for name, value in seen.items()}
    run(tmp_path / "fpa_1", "fpa_offline", [1, 3, 2], metrics=twice, seed=1)
    run(tmp_path / "grpo", "grpo_baseline", [1, 2, 2], dataset=None, training=settings(objective="grpo"))
    return tmp_path


def figures(folder):
    return {one.number: one for one in paper_figures.compare(find_runs([folder])).figures}


def curves(panel):
    return {(line.method, line.side): line.y.tolist() for line in panel.lines}


def test_every_panel_of_every_figure(everything):
    found = figures(everything)
    assert {number: len(one.drawn) for number, one in found.items()} == {1: 2, 2: 3, 3: 3, 4: 3, 5: 1, 6: 1, 8: 2}
    assert not any(one.missing for one in found.values())


def test_figure_2_in_numbers(everything):
    """Steps 1 and 2; FPA's two seeds have means of 1.5 times the first's."""
    changes, weights, ratio = figures(everything)[2].panels
    assert curves(changes) == {
        ("off_rl", "right"): [-1.0, -2.0],
        ("off_rl", "wrong"): [-4.0, -8.0],
        ("fpa_offline", "right"): [-1.5, -3.0],
        ("fpa_offline", "wrong"): [-6.0, -12.0],
    }
    assert curves(weights) == {
        ("off_rl", "right"): [0.2, 0.4],
        ("off_rl", "wrong"): [0.4, 0.8],
        ("fpa_offline", "right"): pytest.approx([0.45, 0.9]),
        ("fpa_offline", "wrong"): pytest.approx([0.15, 0.3]),
    }
    # 0.15 / 0.4 at both.
    assert curves(ratio) == {("fpa_offline", "wrong"): pytest.approx([0.375, 0.375])}
    assert ratio.mark == 1.0


def test_figure_3_is_of_the_prolonged_runs(everything):
    changes, accuracy, low = figures(everything)[3].panels
    assert {method for method, _ in curves(changes)} == {"off_rl_prolonged", "fpa_offline_prolonged"}
    # 1, 2 and 1 of 4 problems.
    assert curves(accuracy)["off_rl_prolonged", None] == [25.0, 50.0, 25.0]
    assert curves(low) == {
        ("off_rl_prolonged", "wrong"): [0.1, 0.2],
        ("fpa_offline_prolonged", "wrong"): [0.2, 0.4],
    }


def test_figures_4_and_8_have_gradient_norms(everything):
    found = figures(everything)
    assert curves(found[4].panels[2])["fpa_correct_only", None] == [3.0, 6.0]
    assert curves(found[8].panels[1]) == {("off_rl", "right"): [2.0, 4.0], ("off_rl", "wrong"): [5.0, 10.0]}


def test_figure_5_has_off_rl_at_zero(everything):
    (panel,) = figures(everything)[5].panels
    (line,) = panel.lines
    # Off-RL ends at 1 of 4, FPA's seeds at 4 and 2.
    assert (line.x.tolist(), line.y.tolist()) == ([0.0, 2.0], [25.0, 75.0])


def test_figure_6_is_in_hours_with_the_data_in_front(everything):
    (panel,) = figures(everything)[6].panels
    hours = {line.method: line.x.tolist() for line in panel.lines}
    # 7,200 device-seconds on two devices are an hour; a step takes a quarter of one.
    assert hours["fpa_offline"] == pytest.approx([0.0, 1.25, 1.5])
    assert hours["grpo_baseline"] == pytest.approx([0.0, 0.25, 0.5])
    # The paper's 73 % are of MATH500 alone.
    assert panel.mark is None


def test_what_is_missing_is_named_with_the_command_that_runs_it(tmp_path):
    run(tmp_path / "off_rl", "off_rl", [1, 2, 1], metrics=sided("policy_weight", 0.2, 0.4))
    found = figures(tmp_path)
    assert len(found[1].drawn) == 1
    assert "no run of fpa_offline: python -m verl.trainer.main recipe=fpa_offline" in found[1].missing
    wanted = "off_rl logged no log_prob_change: run it with actor_rollout_ref.actor.policy_loss.track_reference=true"
    assert found[8].missing == [wanted, "off_rl logged no gradient_norm: run it with gradient_norms.every=10"]
    assert found[3].missing == [
        f"no run of {name}: python -m verl.trainer.main recipe={name}"
        for name in ("off_rl_prolonged", "fpa_offline_prolonged")
    ]


REFERENCE = "actor_rollout_ref.actor.policy_loss.track_reference=true"


def test_a_missing_run_is_to_log_what_its_figure_wants(tmp_path):
    run(tmp_path / "fpa", "fpa_offline", [1, 2, 1], metrics=sided("log_prob_change", -1.0, -2.0))
    found = figures(tmp_path)
    command = "no run of off_rl: python -m verl.trainer.main recipe=off_rl"
    assert found[1].missing == found[2].missing[:1] == [f"{command} {REFERENCE}"]
    assert found[8].missing == [f"{command} {REFERENCE} gradient_norms.every=10"]


def test_the_table_says_of_which_model_the_runs_are(tmp_path):
    run(tmp_path / "fpa", "fpa_offline", [1, 2, 1], model="/hub/models--Qwen--Qwen3-4B-Base/snapshots/0c")
    (table,) = paper_figures.compare(find_runs([tmp_path])).tables()
    assert table.header[2:5] == ["its model", "panels here", "model here"]
    models = {row[0]: (row[2], row[4]) for row in table.rows}
    assert models["1"] == ("Llama-3.2-3B-Instruct", "Qwen3-4B-Base")
    assert models["6"] == ("Qwen3-4B-Base", "Qwen3-4B-Base")
    assert models["8"] == ("Qwen3-1.7B-Base", "Qwen3-4B-Base")


def test_several_base_models_are_a_call_each(tmp_path):
    run(tmp_path / "a", "fpa_offline", [1, 2, 1], model="Qwen/Qwen3-4B-Base")
    other = {**INFO["fingerprints"], "model": "another"}
    run(tmp_path / "b", "off_rl", [1, 2, 1], model="Qwen/Qwen3-1.7B-Base", fingerprints=other)
    with pytest.raises(MismatchError, match="give one model's a call") as error:
        figures(tmp_path)
    told = "Figure 1: Llama-3.2-3B-Instruct, Figure 8: Qwen3-1.7B-Base, 2 to 6: Qwen3-4B-Base"
    assert str(error.value).endswith(told)
    assert f"Qwen3-1.7B-Base: {tmp_path}/b" in str(error.value)


def test_a_sweep_without_validation_is_drawn_in_figure_5_and_left_out_of_the_others(tmp_path):
    """Nothing chooses among lambdas, which Figure 5 has side by side."""
    kept = {"evaluation": {**INFO["evaluation"], "problem_sets": {"toy": "e"}, "samples": {"toy": 2}}}
    for lam, right in ((1.0, 2), (2.0, 3)):
        run(tmp_path / f"fpa{lam:g}", "fpa_offline", [1, right], training=settings(lam=lam), **kept)
    run(tmp_path / "off", "off_rl", [1, 1], **kept)
    found = figures(tmp_path)
    (line,) = found[5].panels[0].lines
    assert (line.x.tolist(), line.y.tolist()) == ([0.0, 1.0, 2.0], [25.0, 50.0, 75.0])
    assert {line.method for line in found[1].panels[0].lines} == {"off_rl"}
    assert (
        found[1]
        .missing[0]
        .startswith("fpa_offline is left out: fpa_offline was run with several settings (hyper_parameters.lam ")
    )
    assert not any(what.startswith("no run of fpa_offline") for what in found[1].missing)


def test_runs_of_no_figure_are_an_error(tmp_path):
    run(tmp_path / "dpo", "dpo", [1, 2], training=settings(objective="dpo", hyper_parameters={}))
    with pytest.raises(DatasetError, match="nothing of the paper's figures can be drawn: no run of off_rl"):
        figures(tmp_path)


@pytest.mark.patient
def test_the_command_draws_a_file_a_figure(everything):
    done = CliRunner().invoke(app, ["report", str(everything), "--compare", "figures"])
    assert done.exit_code == 0, done.output
    folder = everything / "report"
    drawn = {f"figure_{number}.{form}" for number in (1, 2, 3, 4, 5, 6, 8) for form in ("png", "svg")}
    assert {file.name for file in folder.glob("figure_*")} == drawn
    told = json.loads((folder / "figures.json").read_text())
    (second,) = (one for one in told["figures"] if one["figure"] == 2)
    assert np.array(second["panels"][2]["lines"][0]["y"]) == pytest.approx([0.375, 0.375])
    page = (folder / "report.html").read_text()
    assert 'aria-label="figure_3"' in page
    # What they show stands in the other comparisons' sections already.
    CliRunner().invoke(app, ["report", str(everything), "--compare", "dynamics"])
    assert 'aria-label="figure_3"' not in (folder / "report.html").read_text()
