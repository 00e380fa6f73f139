"""What a run says to type next: the same machine, model, task and files of one's own."""

from __future__ import annotations

import pytest

from fpa_verl.commands import Command
from fpa_verl.integration.config import kinds
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.config.next_commands import next_commands
from fpa_verl.integration.config.typed_command import COMMAND
from fpa_verl.integration.say import listen
from tests.integration.running import composed

PYTHON = "python -m verl.trainer.main"
EVALUATE = {"actor_rollout_ref.model.path": "runs/a/best", "run_dir": "runs/evaluate_a"}
SAID = "actor_rollout_ref.model.path=runs/a/best run_dir=runs/evaluate_a"


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        (f"{PYTHON} recipe=fpa_offline", f"{PYTHON} recipe=evaluate {SAID}"),
        (
            f"{PYTHON} task=words recipe=sft hardware=cpu run_dir=runs/a actor_rollout_ref.model.path=base",
            f"{PYTHON} recipe=evaluate task=words hardware=cpu {SAID}",
        ),
        # The user's own files, with hydra's options in all their forms.
        (f"{PYTHON} --config-dir mine recipe=dpo", f"{PYTHON} --config-dir mine recipe=evaluate {SAID}"),
        (f"{PYTHON} --config-dir=mine -m recipe=dpo", f"{PYTHON} --config-dir=mine recipe=evaluate {SAID}"),
        # What trains is nothing to an evaluation; lengths and problems are.
        (
            f"{PYTHON} recipe=fpa_offline actor_rollout_ref.actor.policy_loss.lam=1 scale.max_response_tokens=64 "
            "problems.test='a b.parquet' data.train_batch_size=16",
            f"{PYTHON} recipe=evaluate scale.max_response_tokens=64 'problems.test=a b.parquet' {SAID}",
        ),
        (
            "python -m verl.trainer.main_ppo +recipe=fpa_offline",
            f"python -m verl.trainer.main_ppo +recipe=evaluate {SAID}",
        ),
    ],
)
def test_an_evaluation_like_the_run(typed, wanted):
    assert str(Command.read(typed).for_recipe("evaluate", EVALUATE)) == wanted


def test_it_composes():
    typed = f"{PYTHON} recipe=dpo hardware=cpu model=tiny task=demo trainer.total_training_steps=4 scale.eval_samples=1"
    overrides = Command.read(typed).for_recipe("evaluate", EVALUATE).overrides
    config = composed(overrides[0].removeprefix("recipe="), *overrides[1:])
    assert (config.trainer.v1.trainer_mode, config.run_dir) == ("evaluate", "runs/evaluate_a")


def test_without_a_best_model_there_is_nothing_to_evaluate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs/sums/a"
    run.mkdir(parents=True)
    monkeypatch.setenv(COMMAND, f"{PYTHON} recipe=sft")
    assert next_commands(run) == ["fpa-verl report runs/sums"]
    (run / "best").mkdir()
    report, evaluate = next_commands(run)
    assert report == "fpa-verl report runs/sums"
    wanted = "actor_rollout_ref.model.path=runs/sums/a/best run_dir=runs/sums/evaluate_a"
    assert evaluate == f"{PYTHON} recipe=evaluate {wanted}"
    monkeypatch.delenv(COMMAND)
    assert next_commands(run) == ["fpa-verl report runs/sums"]
    assert next_commands(run, was_evaluated=False) == []
    # A path from elsewhere is whole.
    monkeypatch.chdir("/")
    assert next_commands(run)[0].startswith("fpa-verl report ")


def test_a_collection_says_how_many_are_right_what_trains_and_what_to_type(chained_additions, monkeypatch):
    said: list[str] = []
    monkeypatch.setenv(COMMAND, f"{PYTHON} recipe=collect task=words")
    listen(said.append)
    try:
        facts = facts_of(composed("collect", f"rollouts={chained_additions}"))
        facts.kind.report(facts)
    finally:
        listen(print)
    assert said == [
        f"{chained_additions}:",
        "  96 responses to 22 problems: 25.0 % right, 0.0 % cut off",
        "  88 train, to 22 problems with right and wrong ones; 0 have only right ones, 0 only wrong ones",
        "  cost: 0.00 device-minutes, start-up left out",
        f"next: {PYTHON} recipe=fpa_offline task=words",
        f"next: {PYTHON} recipe=grpo_baseline task=words",
    ]


@pytest.mark.parametrize(("source", "reader"), [("topk", "fpa_offline"), ("chosen", "dpo")])
def test_a_cache_says_what_to_type_so_that_it_is_read(chained_additions, base_model, monkeypatch, source, reader):
    said: list[str] = []
    typed = ["hardware=cpu", "model=tiny", "task=demo", "reference.k=8", f"rollouts={chained_additions}"]
    monkeypatch.setenv(COMMAND, f"{PYTHON} recipe=cache_reference {' '.join(typed)} trainer.logger=[console]")
    monkeypatch.setattr(kinds, "read_cache_file", lambda *_: {})
    monkeypatch.setattr(kinds, "describe_cache", lambda *_: "what there is")
    words = (*typed, f"reference.source={source}", f"actor_rollout_ref.model.path={base_model}")
    listen(said.append)
    try:
        facts = facts_of(composed("cache_reference", *words))
        facts.kind.report(facts)
    finally:
        listen(print)
    command = " ".join([f"{PYTHON} recipe={reader}", *typed, f"reference.source={source}"])
    assert said == ["what there is", f"next: {command}"]
    assert composed(reader, *Command.read(command).overrides[1:]).reference.k == 8
