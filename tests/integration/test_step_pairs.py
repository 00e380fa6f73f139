"""Offline recipes on what was made of searched trees: step pairs and whole solutions, and what is said of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.commands import Command
from fpa_verl.data_check import check_dataset
from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.integration.command import preflight
from fpa_verl.integration.command.rounds import Chain
from fpa_verl.integration.config.identity import dataset_input
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.config.trees import search_settings
from fpa_verl.integration.trainers.static_rollouts import StaticRollouts
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.runs.run import read_run
from fpa_verl.trees import PairRules, SolutionRules, TreeDataset, write_solutions, write_steps
from tests.integration.running import DEMO, composed, metrics, train
from tests.integration.searched import COST, SEARCH, VALIDATION, chained_trees

RULES = PairRules(gap=0.1, per_problem=None)


@pytest.fixture(scope="module")
def trees(tmp_path_factory, base_model) -> Path:
    folder = chained_trees(tmp_path_factory.mktemp("searched") / "trees", base_model)
    write_steps(TreeDataset(folder), folder / "steps", RULES)
    write_solutions(TreeDataset(folder), folder / "solutions", SolutionRules())
    return folder


def facts(recipe: str, trees: Path, base_model: Path, *overrides: str):
    keys = (f"actor_rollout_ref.model.path={base_model}", f"trees={trees}", "data.train_batch_size=8")
    return facts_of(composed(recipe, *DEMO, *keys, "data.val_files=[]", *overrides))


@pytest.mark.parametrize("pairs_per_group", ["null", "1"])
def test_an_item_of_step_dpo_is_a_pair_of_steps(trees, base_model, pairs_per_group):
    known = facts("step_dpo", trees, base_model, f"data.selection.pairs_per_group={pairs_per_group}")
    preflight.check(known)
    items = StaticRollouts(known.config.data.train_files, config=known.config.data)
    assert len(items) == known.manifest.counts["groups"] > 20
    depths = set()
    for place in range(len(items)):
        chosen, rejected = items[place]["trajectories"]
        assert (chosen["role"], rejected["role"], chosen["prompt_ids"]) == (
            "chosen",
            "rejected",
            rejected["prompt_ids"],
        )
        assert chosen["step_values"][-1] > rejected["step_values"][-1] + 0.1
        depths.add(len(chosen["step_ends"]))
    assert len(depths) > 1


@pytest.mark.parametrize("recipe", ["dpo", "kto", "sft", "fpa_offline", "rpo", "a_star_po"])
def test_other_recipes_train_on_whole_solutions(trees, base_model, recipe):
    known = facts(recipe, trees, base_model, "rollouts=${trees}/solutions")
    preflight.check(known)
    assert len(StaticRollouts(known.config.data.train_files, config=known.config.data)) >= 8


def test_a_run_owes_the_search(trees, base_model):
    for recipe, folder in (("step_dpo", "steps"), ("dpo", "solutions")):
        owed = dataset_input(facts(recipe, trees, base_model, f"rollouts={trees}/{folder}"))
        searched = TreeDataset(trees).manifest
        assert (owed.device_seconds, owed.cost, owed.paid_as) == (12, COST, searched.fingerprint)
        assert owed.about["sampled_tokens"] == searched.counts["sampled_tokens"]
        assert owed.base_model == searched.fingerprints["model"]


@pytest.mark.parametrize("made", ["steps", "solutions"])
def test_nothing_is_wrong_with_them_by_their_texts_and_the_scorer(trees, made):
    findings = {one.subject: one for one in check_dataset(trees / made)}
    assert {name: one.detail for name, one in findings.items() if one.state == "wrong"} == {}
    said = "single steps" if made == "steps" else "scored anew, with the same result"
    assert said in findings["scores"].detail
    assert "hold their problems" in findings["prompts"].detail


def test_without_a_dataset_the_search_is_what_to_type(tmp_path, base_model):
    with pytest.raises(DatasetError, match=r"make one with `python -m verl.trainer.main recipe=collect_tree trees="):
        _ = facts("step_dpo", tmp_path / "none", base_model).manifest
    with pytest.raises(DatasetError, match=r"make one with `python -m verl.trainer.main recipe=collect rollouts="):
        _ = facts("step_dpo", tmp_path / "none", base_model, f"rollouts={tmp_path}/r").manifest


def rounds(trees: Path, base_model: Path, run_dir: Path, recipe: str, made: str, *overrides: str) -> Chain:
    typed = (
        *(*DEMO, f"actor_rollout_ref.model.path={base_model}", f"problems.train={trees.with_name('all.parquet')}"),
        *(f"trees={trees}", f"rollouts={trees}/{made}", f"run_dir={run_dir}", "rounds=2", "snapshots.every=2"),
        *("trainer.test_freq=-1", *(f"validation.{name}={value}" for name, value in VALIDATION.items()), *overrides),
    )
    config = composed(recipe, *typed)
    OmegaConf.set_struct(config, False)
    return Chain(config, Command.of([f"recipe={recipe}", *typed]))


@pytest.mark.parametrize(("recipe", "made"), [("step_dpo", "steps"), ("svpo", "steps"), ("dpo", "solutions")])
def test_later_rounds_search_as_the_first_one_did(trees, base_model, tmp_path, recipe, made):
    folder = tmp_path / "trees"
    shutil.copytree(trees, folder)
    shutil.copyfile(trees.with_name("all.parquet"), tmp_path / "all.parquet")
    shutil.rmtree(folder / "steps")
    write_steps(TreeDataset(folder), folder / "steps", PairRules())
    chain = rounds(folder, base_model, tmp_path / "run", recipe, made)
    chain.require()
    start = f"{tmp_path}/run/round_1/snapshots/step_2"
    searching, training = chain.commands(2, start)
    words = dict(word.split("=", 1) for word in searching.overrides)
    assert (words["recipe"], words["trees"]) == ("collect_tree", f"{tmp_path}/run/round_2/rollouts")
    assert words["start_from"] == start
    assert words.get("tree.value_model") == (start if recipe == "svpo" else None)
    config = composed("collect_tree", *searching.overrides[1:])
    found = replace(search_settings(config), seed=SEARCH.seed)
    assert found == SEARCH
    words = dict(word.split("=", 1) for word in training.overrides)
    assert words["rollouts"] == f"{tmp_path}/run/round_2/rollouts/{made}"
    composed(recipe, *training.overrides[1:])


def test_rounds_on_pairs_by_other_rules_are_refused(trees, base_model, tmp_path):
    chain = rounds(trees, base_model, tmp_path / "run", "step_dpo", "steps")
    with pytest.raises(
        MismatchError, match=r"steps was made of .* by rules of its own.*`fpa-verl data steps .* --out FOLDER`"
    ):
        chain.require()


@pytest.fixture(scope="module")
def runs(trees, tmp_path_factory, base_model) -> Path:
    """Two steps of step-level DPO, and one of KTO on the solutions, each with nothing to evaluate by."""
    folder = tmp_path_factory.mktemp("on_trees")
    shutil.copytree(trees, folder / "trees")
    few = (
        "data.train_batch_size=8",
        "data.val_files=[]",
        "actor_rollout_ref.actor.optim.lr=1e-3",
        f"trees={folder}/trees",
    )
    for recipe, made, steps in (("step_dpo", "steps", 2), ("kto", "solutions", 1)):
        words = (f"rollouts={folder}/trees/{made}", f"trainer.total_training_steps={steps}", "snapshots.every=2")
        done = train(recipe, folder, base_model, *few, *words)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert "starting vLLM" not in done.stdout
    return folder


@pytest.mark.engine
@pytest.mark.patient
def test_step_dpo_trains(runs):
    run = read_run(runs / "step_dpo")
    assert (run.finished, run.recipe, run.training["objective"]) == (True, "step_dpo", "dpo")
    assert run.dataset_device_seconds == 12
    first, second = (metrics(runs / "step_dpo")[step] for step in (1, 2))
    # The policy is the reference: log 2, and half of beta's pull on each pair.
    assert first["actor/pg_loss"] == pytest.approx(0.6931, abs=1e-3)
    assert first["actor/grad_norm"] > 0
    assert second["actor/pg_loss"] < first["actor/pg_loss"]
    assert read_run(runs / "kto").finished


@pytest.mark.engine
@pytest.mark.patient
def test_a_report_counts_the_tokens_of_the_search_and_draws_a_tree(runs):
    folders = [str(runs / "step_dpo"), str(runs / "kto")]
    words = ["report", *folders, "--compare", "cost", "--out", str(runs / "report")]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    sampled = TreeDataset(runs / "trees").manifest.counts["sampled_tokens"]
    for run in json.loads((runs / "report" / "cost.json").read_text())["runs"]:
        assert run["generated_tokens_a_device_second"] == pytest.approx(sampled / 10)
    assert RolloutDataset(runs / "trees" / "steps").manifest.counts["response_tokens"] != sampled
    page = (runs / "report" / "report.html").read_text()
    assert "A preferred step and one that is not, behind the same prefix" in page
    assert 'aria-label="tree"' in page
