"""Our entry and verl's own `main_ppo +recipe=NAME`: the same checks, and commands that make the same run again."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from fpa_verl.commands import MAIN, VERLS_MAIN, Command
from fpa_verl.demo import task
from fpa_verl.errors import AGAIN, DatasetError
from fpa_verl.integration.command import launch as launcher
from fpa_verl.integration.command import verls_main
from fpa_verl.integration.command.compose import composed
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.config.typed_command import as_if_typed
from fpa_verl.paths import RECIPES
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.prompts import BARE
from fpa_verl.rollouts.record_files import record_files
from fpa_verl.runs.run import read_run
from tests.integration.running import DEMO, SMALL_BATCHES, WITHOUT_VALIDATION


@pytest.fixture
def verls(launch, base_model, chained_additions, tmp_path):
    """`main_ppo +recipe=fpa_offline` on a dataset that is named from the folder of the command."""
    (tmp_path / "rollouts").symlink_to(chained_additions)

    def run(*overrides: str, flags: tuple[str, ...] = ()):
        arguments = [*DEMO, "rollouts=rollouts", f"actor_rollout_ref.model.path={base_model}", "run_dir=run"]
        held_out = "data.val_files=[rollouts/validation.parquet]"
        words = [*flags, "+recipe=fpa_offline", *arguments, held_out, *SMALL_BATCHES, *overrides]
        return launch(*words, module=VERLS_MAIN[-1])

    return run


def refused(done) -> str:
    """The last line of a command that was refused before Ray started, and said no more about it."""
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "Started a local Ray" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.patient
def test_verls_entry_refuses_a_dataset_in_which_nothing_can_train(verls, base_model, tmp_path):
    problems = task.distinct_problems(4, seed=0)
    lines = [
        json.dumps(
            {
                "problem": p.text,
                "ground_truth": p.answer,
                "id": p.text,
                "response": p.solution({} if slip is None else {slip: 1}),
            }
        )
        for p in problems
        for slip in (0, 1)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    import_rollouts(
        record_files([tmp_path / "t.jsonl"]), str(base_model), tmp_path / "d", prompt=BARE, max_response_tokens=64
    )
    assert refused(verls("rollouts=d")).startswith(f"error: nothing to train on in {tmp_path}/d: no group holds both")


@pytest.mark.patient
def test_verls_entry_refuses_a_model_that_did_not_make_the_dataset(verls, base_model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base_model)
    model.lm_head.weight.data += 1
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(base_model).save_pretrained(tmp_path / "other")
    said = refused(verls("actor_rollout_ref.model.path=other"))
    assert said.startswith(f"error: {tmp_path}/rollouts was made with another model")


@pytest.mark.patient
def test_verls_entry_refuses_in_one_line_what_hydra_would_in_many(launch, tmp_path):
    def said(text: str) -> str:
        (tmp_path / "mine.yaml").write_text(text)
        done = launch("--config-dir", ".", "--config-name", "mine", "hardware=cpu", module=VERLS_MAIN[-1])
        assert "hydra" not in done.stderr.lower()
        return refused(done)

    assert said("defaults: [ppo_trainer, recipe: dpo]\nscale:\n\tlr: 1\n").startswith("error: mine.yaml, line 3: found")
    assert said("defaults: [ppo_trainer, recipe: dppo]\n").startswith(
        "error: mine.yaml: recipe: dppo: choose from a_star"
    )
    # Only what is composed tells that.
    assert "begin the file's defaults with `- ppo_trainer`" in said("defaults: [recipe: dpo]\n")


@pytest.mark.patient
def test_in_a_sweep_of_verls_entry_each_job_is_checked(verls):
    done = verls("data.train_batch_size=4096,8192", "run_dir=a", flags=("-m",))
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert ["4096" in errors[0], "8192" in errors[1], len(errors)] == [True, True, 2], done.stderr[-3000:]


@pytest.mark.patient
def test_verls_entry_trains_resumes_and_writes_down_what_was_typed(verls, chained_additions, tmp_path):
    # After one update at this rate right trajectories have lost all, which stops a run at its second step.
    stops = ("actor_rollout_ref.actor.optim.lr=1", "collapse.action=stop", "collapse.window=1")
    settings = (*WITHOUT_VALIDATION, "trainer.save_freq=1", "keep_best=false", *stops)
    done = verls(*settings, "trainer.total_training_steps=1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = read_run(tmp_path / "run")
    assert run.spending.finished
    (dataset,) = run.info["inputs"]
    assert dataset["folder"] == f"{tmp_path}/rollouts"
    assert shlex.split(run.info["command"])[:4] == [*VERLS_MAIN, "+recipe=fpa_offline"]
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert Path(config.data.val_files[0]).is_absolute()

    again = [sys.executable, *shlex.split(run.info["command"])[1:]]
    second = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert f"{tmp_path}/run: finished before, at step 1" in second.stdout, second.stderr[-2000:]

    third = verls(*settings, "trainer.total_training_steps=2")
    assert f"{tmp_path}/run: goes on after step 1" in third.stdout, third.stdout[-3000:] + third.stderr[-3000:]
    assert third.returncode == 1
    # A worker raised it.
    assert third.stderr.splitlines()[-1].startswith("error: step 2: right trajectories have lost"), third.stderr[-3000:]
    assert "Error executing job" not in third.stderr
    assert json.loads((tmp_path / "run" / "ledger.jsonl").read_text().splitlines()[-1])["kind"] == "closed"


def hydra_jobs(arguments: list[str], monkeypatch, start=MAIN):
    """Configuration and recorded command of each job that hydra makes of a typed command."""
    found = []
    primary = "ppo_trainer" if start == VERLS_MAIN else "main"

    @hydra.main(config_path=launcher.VERLS_CONFIG, config_name=primary, version_base="1.3")
    def job(config):
        launcher.place_outputs(config)
        found.append((config, launcher.typed_job(config)))

    monkeypatch.setattr(launcher, "typed", lambda: Command.of(arguments, start))
    monkeypatch.setattr(sys, "argv", ["main", *arguments])
    with launcher.sees_to_itself():
        job()
    return found


OWN = """
# @package _global_
defaults: [/recipe/fpa_offline, _self_]
recipe_name: mine
"""
OWN_FOLDER = ["--config-dir", "my recipes", "recipe=mine"]


@pytest.mark.patient
@pytest.mark.parametrize(
    ("jobs", "start", "arguments"),
    [
        (1, MAIN, [*OWN_FOLDER, *DEMO, r"prompt.text='Q: {problem}, it\'s $x'"]),
        (4, MAIN, ["-m", "recipe=fpa_offline", *DEMO, "scale.lam=1,2", "data.seed=0,1"]),
        (2, MAIN, ["-m", *OWN_FOLDER, *DEMO, "+data.x='a,b','c d'"]),
        (2, MAIN, ["-m", *OWN_FOLDER, *DEMO, "data.seed=0,1", "run_dir=runs/\\${data.seed}"]),
        (1, VERLS_MAIN, ["+recipe=dpo", *DEMO, "~collapse.floor", "data.val_files=[a.parquet,'b c.parquet']"]),
        (2, VERLS_MAIN, ["-m", "+recipe=dpo", *DEMO, "scale.lam=1,2"]),
    ],
)
def test_the_recorded_command_composes_to_the_same_configuration(tmp_path, monkeypatch, jobs, start, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my recipes" / "recipe").mkdir(parents=True)
    (tmp_path / "my recipes" / "recipe" / "mine.yaml").write_text(OWN)
    found = hydra_jobs(arguments, monkeypatch, start)
    assert len(found) == jobs
    assert len({str(command) for _, command in found}) == jobs
    for config, command in found:
        # A shell gives these words to `python`.
        words = shlex.split(str(command))
        assert tuple(words[:3]) == start
        ((again, _),) = hydra_jobs(words[3:], monkeypatch, start)
        assert again == config


def test_a_hint_is_the_typed_command_with_another_recipe(tmp_path, monkeypatch):
    """It composes, to the same task, model and machine."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my recipes" / "task").mkdir(parents=True)
    (tmp_path / "my recipes" / "task" / "words.yaml").write_text((RECIPES / "task" / "demo.yaml").read_text())
    words = ["task=words", "hardware=cpu", "model=tiny", "rollouts=r", "scale.lam=1", "data.selection.unit=trajectory"]
    typed = Command.of(["--config-dir", "my recipes", "recipe=fpa_offline", *words, "reference.source=topk"])
    config = composed(typed).config
    with as_if_typed(typed), pytest.raises(DatasetError) as caught:
        _ = facts_of(config).manifest
    hint = re.search("`(python .*?)`", str(caught.value))[1]
    assert hint == (
        "python -m verl.trainer.main --config-dir 'my recipes' recipe=collect task=words hardware=cpu model=tiny "
        "rollouts=r scale.lam=1"
    )
    collecting = composed(Command.read(hint)).config
    assert (collecting.recipe_name, collecting.rollouts, collecting.trainer.device) == ("collect", "r", "cpu")
    with as_if_typed(typed):
        assert facts_of(config).command_for("cache_reference").endswith("scale.lam=1 reference.source=topk")


@pytest.mark.patient
def test_verls_entry_warns_of_what_the_recipe_takes_from_ones_own_file(verls, tmp_path):
    text = "defaults: [ppo_trainer, _self_]\nactor_rollout_ref: {rollout: {n: 5}}\n"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text(text)
    done = verls("data.train_batch_size=4096", flags=("--config-dir", "own", "--config-name", "mine"))
    assert "fewer than one batch of 4096" in refused(done)
    warning = next(line for line in done.stdout.splitlines() if line.startswith("warning: "))
    assert warning.startswith("warning: +recipe= comes behind mine.yaml and has the last word on 1 of its keys")
    assert "\n  actor_rollout_ref.rollout.n: 1, not 5\n" in done.stdout


def test_what_ctrl_c_ends_in_verls_entry_is_closed_and_said(tmp_path, monkeypatch, capfd):
    """Python calls it at its end, for hydra does not."""
    closed = []

    @contextmanager
    def attended(*_):
        try:
            yield
        except KeyboardInterrupt:
            closed.append(True)
            raise

    kind = SimpleNamespace(is_done=lambda _: False)
    facts = SimpleNamespace(kind=kind, folder=tmp_path, holds_rollout_engine=False)
    monkeypatch.setattr(launcher, "prepare", lambda *_: facts)
    monkeypatch.setattr(launcher, "attended", attended)
    at_exit = []
    monkeypatch.setattr(verls_main.atexit, "register", at_exit.append)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(RECIPES), version_base="1.3"):
        config = compose("main", overrides=["recipe=dpo"], return_hydra_config=True)
    before = HydraConfig.instance().cfg
    verls_main.AroundVerlsMain().on_run_start(config)
    HydraConfig.instance().cfg = before
    at_exit[0]()
    assert closed == [True]
    assert capfd.readouterr().err == f"log: {tmp_path}/log.txt\ninterrupted. {AGAIN}\n"
