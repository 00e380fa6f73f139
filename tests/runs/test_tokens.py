"""Log-probs token by token: written by workers, read by the report."""

from __future__ import annotations

import json

from fpa_verl.report.page.views import NO_REFERENCE, RUNS, read_views
from fpa_verl.runs.find import find_runs
from fpa_verl.runs.tokens import TokenLogProbs, append_token_log_probs, read_token_log_probs
from tests.runs.directories import make_run, settings


def note(run, row, step, policy, *, worker=0, attempt=1, **more):
    append_token_log_probs(run, worker, TokenLogProbs(row, attempt, step, policy, **more))


def test_what_was_noted_is_short_and_leaves_out_what_there_was_not(tmp_path):
    note(tmp_path, 4, 2, [-0.123456, -1.0], reference=[-0.1, -0.9996])
    line = json.loads((tmp_path / "tokens.0.jsonl").read_text())
    assert line == {"row": 4, "attempt": 1, "step": 2, "policy": [-0.123, -1.0], "reference": [-0.1, -1.0]}


def test_rows_are_put_together_from_all_workers_in_order_of_steps(tmp_path):
    note(tmp_path, 4, 9, [-0.3], worker=1)
    note(tmp_path, 4, 2, [-0.1], worker=0)
    note(tmp_path, 5, 2, [-0.2], worker=1)
    found = read_token_log_probs(tmp_path)
    assert [(one.step, one.policy) for one in found[4]] == [(2, [-0.1]), (9, [-0.3])]
    assert [(one.step, one.policy) for one in found[5]] == [(2, [-0.2])]
    assert read_token_log_probs(tmp_path / "none") == {}


def test_a_step_that_was_done_again_counts_as_it_was_done_last(tmp_path):
    # The second attempt had the row on worker 0, whose file is read first.
    note(tmp_path, 4, 2, [-0.1], worker=1, attempt=1)
    note(tmp_path, 4, 2, [-0.2], worker=0, attempt=2)
    # Twice in one attempt: a trajectory in several pairs.
    note(tmp_path, 5, 2, [-0.3], worker=0, attempt=2)
    note(tmp_path, 5, 2, [-0.4], worker=0, attempt=2)
    # Killed while it wrote.
    with open(tmp_path / "tokens.0.jsonl", "a") as file:
        file.write('{"row": 5, "att')
    found = read_token_log_probs(tmp_path)
    assert {row: [one.policy for one in steps] for row, steps in found.items()} == {4: [[-0.2]], 5: [[-0.4]]}


def views_of(folder, sampling):
    return read_views(find_runs([folder]), sampling)


def test_views_are_what_the_runs_noted(tmp_path):
    fpa = make_run(tmp_path / "fpa", [1])
    note(fpa, 4, 1, [-0.1], reference=[-0.1], future=[-0.1])
    note(fpa, 4, 7, [-0.5], reference=[-0.1], future=[-1.3])
    note(fpa, 99, 1, [-0.1])
    views = views_of(tmp_path, {4: None, 5: [-0.25]})
    assert [view.label for view in views.choices] == [
        "sampling policy",
        "reference",
        "fpa: change from the reference, last noted",
        "fpa: policy, last noted",
        "fpa: future policy, last noted",
        "fpa: change from the reference, first noted",
        "fpa: policy, first noted",
        "fpa: future policy, first noted",
    ]
    assert views.notes == []
    # Row 99 is none of those asked for.
    assert sorted(views.values) == [4, 5]
    assert json.loads(views.as_json(5)) == {"sampling": {"step": None, "log_probs": [-250]}}
    assert views.values[4]["0/future/last"] == {"step": 7, "log_probs": [-1300]}
    change = views.choices[2]
    assert views.values[4][change.key]["log_probs"] == [-500]
    assert views.values[4][change.against]["log_probs"] == [-100]


def test_a_reference_serves_all_runs_that_score_at_its_temperature(tmp_path):
    scored = {"scoring_temperature": 1.0}
    fpa = make_run(tmp_path / "fpa", [1], training={**settings(), **scored})
    note(fpa, 4, 1, [-0.1], reference=[-0.1])
    note(make_run(tmp_path / "off_rl", [1], recipe="off_rl", training={**settings(), **scored}), 4, 2, [-0.2])
    other = {**settings(), "scoring_temperature": 0.7}
    note(make_run(tmp_path / "other", [1], recipe="off_rl", training=other), 4, 3, [-0.3])
    changes = [view.label for view in views_of(tmp_path, {4: None}).choices if view.against]
    assert changes == [f"{name}: change from the reference, last noted" for name in ("fpa", "off_rl")]


def test_without_a_reference_the_page_says_how_to_get_one(tmp_path):
    note(make_run(tmp_path / "off_rl", [1]), 4, 2, [-0.2])
    views = views_of(tmp_path, {4: None})
    assert views.notes == [NO_REFERENCE]
    assert [view.label for view in views.choices] == ["sampling policy", "off_rl: policy, last noted"]


def test_the_page_shows_one_seed_of_each_configuration_before_the_second_and_a_bounded_number(tmp_path):
    for seed in range(RUNS):
        note(make_run(tmp_path / f"a{seed}", [1], seed=seed), 4, 1, [-0.1])
    note(make_run(tmp_path / "b", [1], training=settings(lam=5.0)), 4, 1, [-0.1])
    views = views_of(tmp_path, {4: None})
    shown = [view.label.split(":")[0] for view in views.choices if view.key != "sampling"]
    assert shown == ["a0", "b", *(f"a{seed}" for seed in range(1, RUNS - 1))]
    assert views.notes[-1] == f"Not shown, for the page's size: a{RUNS - 1}."


def test_what_is_not_finite_is_not_known(tmp_path):
    note(make_run(tmp_path / "a", [1]), 4, 1, [-0.1, float("-inf"), float("nan")])
    assert views_of(tmp_path, {4: None}).values[4]["0/policy/last"]["log_probs"] == [-100, None, None]
