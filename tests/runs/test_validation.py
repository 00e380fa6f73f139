"""Which step was the best by the validation problems, and what a run says that kept none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fpa_verl.runs.record import record_evaluation
from fpa_verl.runs.run import read_run
from fpa_verl.runs.validation import best_step, why_no_best_model
from tests.runs.directories import INFO, make_run, outcomes

ONE_SET = {"evaluation": {**INFO["evaluation"], "problem_sets": {"toy": "e"}}}


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        # Of four problems two, then one, then two: as good is not better.
        ([2, 1, 2], "none of 2 validations beat the model that the run began with (50.0 %; the highest of them 50.0 %"),
        ([3, 1, 2], "(75.0 %; the highest of them 50.0 %, at step 2)"),
        ([4, 0], "none of 1 validations beat the model that the run began with (100.0 %; the highest of them 0.0 %"),
        ([0, 0, 0, 0], "none of 3 validations beat the model that the run began with (0.0 %"),
        ([2], "no step after the start was validated: trainer.test_freq=10"),
        ([], "no step after the start was validated"),
        # That step had been kept: somebody took it away.
        ([1, 2, 3], "step 2 was the best on the validation problems, and its model is not in best/"),
    ],
)
def test_a_run_without_a_best_model_says_why(tmp_path, validation, said):
    run = read_run(make_run(tmp_path / "a", [1] * len(validation), validation=validation, model="hub/base"))
    line = why_no_best_model(run)
    assert line.startswith(f"{tmp_path}/a: ")
    assert "\n" not in line
    assert said in line
    assert ("Use hub/base, or train longer" in line) == ("did not help" in line)
    (tmp_path / "a" / "best").mkdir()
    assert why_no_best_model(run) == ""


def test_without_validation_problems_there_is_no_best(tmp_path):
    run = read_run(make_run(tmp_path / "a", [1, 2, 3], **ONE_SET))
    assert "no best/, for there were no held-out problems to choose by: validation.fraction=0.05" in why_no_best_model(
        run
    )


def test_where_nothing_is_evaluated_there_are_snapshots(tmp_path):
    nothing = {"evaluation": {**INFO["evaluation"], "problem_sets": {}, "samples": {}}}
    run = read_run(make_run(tmp_path / "a", [], **nothing))
    assert "no best/, for nothing was evaluated: snapshots.every=50" in why_no_best_model(run)
    (tmp_path / "a" / "snapshots" / "step_6").mkdir(parents=True)
    assert f"nothing was evaluated; the models that it kept: {tmp_path}/a/snapshots" in why_no_best_model(run)


def test_a_validation_of_which_nothing_could_be_scored_is_none(tmp_path):
    folder = make_run(tmp_path / "a", [1], validation=[2])
    record_evaluation(folder, attempt=1, step=1, problems={}, asked_for={"toy/validation": 8})
    run = read_run(folder)
    assert best_step(run) == 0
    assert "no step after the start was validated" in why_no_best_model(run)
    record_evaluation(folder, attempt=1, step=2, problems={"toy/validation": outcomes(1)})
    assert "none of 1 validations beat" in why_no_best_model(read_run(folder))


@pytest.mark.parametrize("kind", ["OFFLINE", "ONLINE"])
@pytest.mark.parametrize("keep_best", [True, False])
def test_a_command_that_trains_says_so_in_its_end(tmp_path, capsys, kind, keep_best):
    pytest.importorskip("omegaconf")
    from fpa_verl.integration.config import kinds

    folder = make_run(tmp_path / "a", [1, 1], validation=[2, 1])
    facts = SimpleNamespace(run_dir=folder, config=SimpleNamespace(keep_best=keep_best))
    getattr(kinds, kind).report(facts)
    # Who asked for none is told nothing.
    assert capsys.readouterr().out.count("training did not help") == keep_best
    kinds.VERLS_OWN.report(facts)
    assert capsys.readouterr().out == ""
