"""`recipe=collect_tree`: what it refuses, when it is done, and the real command, killed and gone on with."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from fpa_verl.errors import ConfigError, DatasetError, MismatchError
from fpa_verl.integration import say
from fpa_verl.integration.command.checks import settings
from fpa_verl.integration.config.kinds import facts_of
from fpa_verl.integration.config.trees import describe_trees, search_settings, searched_again, trees_at_once
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.problems import read_problems
from fpa_verl.runs.ledger import read_ledger, read_spending
from fpa_verl.runs.progress import read_count
from fpa_verl.trees import (
    PairRules,
    SearchSettings,
    SolutionRules,
    TreeDataset,
    TreeWriter,
    write_solutions,
    write_steps,
)
from tests.integration.faults.conftest import start  # noqa: F401
from tests.integration.running import DEMO, composed, train
from tests.trees.toy import NOTES, TWO, searched


@pytest.fixture(scope="module")
def usual():
    return composed("collect_tree", *DEMO)


def with_values(config, **values):
    changed = OmegaConf.create(OmegaConf.to_container(config))
    for key, value in values.items():
        OmegaConf.update(changed, key.replace("__", "."), value, force_add=True)
    return changed


# ---- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("tree.simulations", 0, "tree.simulations=0: a whole number of at least 1"),
        ("tree.trees", 1.5, "tree.trees=1.5: a whole number"),
        ("tree.c", -1, "tree.c=-1: a number of at least 0"),
        ("tree.drop_identical", "maybe", "tree.drop_identical=maybe: true or false is wanted"),
        ("tree.at_once", 0, "tree.at_once=0: null, or a whole number of at least 1"),
        ("tree.widths", 3, "tree: .*unexpected keyword argument 'widths'"),
        ("tree.delimiter", "", "tree.delimiter='': a text is wanted that ends a step"),
        ("tree.delimiter", 7, "tree.delimiter=7: a text is wanted"),
        ("tree.delimiter", r"\n\n", "is a backslash and an n; of a line break the command says"),
        ("prompt.stop", [";"], "tree.delimiter=';' and prompt.stop=';', which ends a solution"),
        ("prompt.stop", ["x;y"], "prompt.stop='x;y'"),
        ("scale.max_model_tokens", 70, "max_model_len=70: .* take up to 80; set scale.max_model_tokens=80"),
        ("actor_rollout_ref.rollout.name", "sglang", "recipe=collect_tree asks plain .*rollout.name=sglang"),
    ],
)
def test_a_search_that_cannot_be_is_refused_in_one_line_before_anything_starts(usual, key, value, said):
    with pytest.raises(ConfigError, match=said) as refused:
        settings.check(facts_of(with_values(usual, **{key: value})))
    assert "\n" not in str(refused.value)


def test_a_stop_text_that_goes_on_to_the_delimiter_ends_the_solution_and_is_no_fault(usual):
    settings.check(facts_of(with_values(usual, **{"prompt.stop": ["END;"]})))


def test_a_line_break_can_be_typed():
    assert composed("collect_tree", *DEMO, 'tree.delimiter="\n"').tree.delimiter == "\n"
    assert composed("collect_tree").tree.delimiter == "\n"


def test_a_task_that_says_nothing_of_trees_has_the_paper_s_search(usual):
    found = search_settings(composed("collect_tree"))
    assert found == SearchSettings(seed=42)
    assert search_settings(usual).max_response_tokens == 64


def test_as_many_trees_are_in_flight_as_keep_the_servers_full(usual):
    assert trees_at_once(usual, servers=1) == 2 * 256 / 4
    assert trees_at_once(with_values(usual, **{"tree.children": 3}), servers=2) == 342
    assert trees_at_once(with_values(usual, **{"tree.at_once": 5}), servers=2) == 5


# ---- the folder ---------------------------------------------------------------------------------


@pytest.fixture
def collecting(usual, base_model, chained_additions, tmp_path):
    def facts(**values):
        own = {
            "actor_rollout_ref.model.path": str(base_model),
            "data.train_files": [f"{chained_additions}/train.parquet"],
            "trees": str(tmp_path / "trees"),
        }
        return facts_of(with_values(usual, **{**own, **values}))

    return facts


def finish(facts):
    plan = describe_trees(facts)
    writer = TreeWriter(facts.trees, plan)
    writer.add([searched(NOTES, TWO)])
    return writer.finish(cost={"device_seconds": {"generation": 3.0}}, origin={}, versions={}, **plan)


def test_a_finished_search_is_not_repeated_and_no_other_takes_it_for_its_own(collecting, monkeypatch):
    facts = collecting()
    assert not facts.kind.is_done(facts)
    TreeWriter(facts.trees, describe_trees(facts))
    assert not facts.kind.is_done(facts)
    other = collecting(**{"tree.c": 2.0, "tree.delimiter": "+"})
    refused = r"another search\.c \(1\.25, now 2\.0\), search\.delimiter \(;, now \+\): name another folder"
    with pytest.raises(MismatchError, match=refused):
        other.kind.is_done(other)
    finish(facts)
    said: list[str] = []
    monkeypatch.setattr(say, "_listener", said.append)
    assert facts.kind.is_done(facts)
    assert said == [f"{facts.trees}: collected before; delete it to search again"]
    # Whoever was killed between the trees and what is made of them has that now.
    assert RolloutDataset(facts.trees / "solutions").manifest.counts["trajectories"] == 6
    assert (facts.trees / "steps" / "manifest.json").exists()
    with pytest.raises(MismatchError, match=refused):
        other.kind.is_done(other)
    # How many are under way at a time is no matter.
    at_once = collecting(**{"tree.at_once": 3})
    assert at_once.kind.is_done(at_once)


def test_trees_that_are_damaged_end_the_command_and_no_note_hides_it(collecting):
    facts = collecting()
    finish(facts)
    (part,) = facts.trees.glob("part-*.parquet")
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(DatasetError, match=r"part-00000.parquet is damaged"):
        facts.kind.is_done(facts)


def test_rollouts_are_no_trees(collecting, chained_additions):
    facts = collecting(trees=str(chained_additions))
    with pytest.raises(DatasetError, match="name the folder of a tree dataset"):
        facts.kind.is_done(facts)


def test_what_became_of_the_trees_is_said(collecting, monkeypatch):
    facts = collecting()
    finish(facts)
    said: list[str] = []
    monkeypatch.setattr(say, "_listener", said.append)
    facts.kind.report(facts)
    assert said[:3] == [
        f"{facts.trees}:",
        "  1 trees of 1 problems, 11 nodes",
        "  6 solutions: 33.3 % right, 0.0 % without an answer or broken off",
    ]
    assert "cost: 0.05 device-minutes, start-up left out" in said[3]
    assert len(said) == 4
    write_steps(TreeDataset(facts.trees), facts.trees / "steps", PairRules())
    write_solutions(TreeDataset(facts.trees), facts.trees / "solutions", SolutionRules())
    said.clear()
    facts.kind.report(facts)
    assert said[4] == "  2 pairs of steps from 1 problems, Q 2.00 apart in the mean"
    assert said[5].startswith("next: ")
    assert "recipe=svpo" in said[5]
    assert f"rollouts={facts.trees}/solutions" in said[6]


def test_where_no_solution_could_be_scored_the_scorer_is_named(collecting, monkeypatch):
    facts = collecting()
    manifest = finish(facts)
    counts = {name: 0 if name.startswith("status_") else count for name, count in manifest.counts.items()}
    silent = replace(manifest, counts={**counts, "status_timeout": 6})
    monkeypatch.setattr("fpa_verl.integration.config.trees.read_tree_manifest", lambda _: silent)
    with pytest.raises(DatasetError, match="no solution could be scored; mend what the scorer says"):
        facts.kind.report(facts)


def test_later_rounds_search_and_sample_as_the_first_search_did(collecting):
    facts = collecting(**{"actor_rollout_ref.rollout.top_p": 0.9, "tree.c": 2.0})
    finish(facts)
    steps = facts.trees / "steps"
    manifest = write_steps(TreeDataset(facts.trees), steps, PairRules())
    found = searched_again(steps, manifest, facts.config, trains_value_head=False)
    assert (found["tree.c"], found["tree.drop_identical"]) == ("2.0", "true")
    assert (found["actor_rollout_ref.rollout.top_p"], found["actor_rollout_ref.rollout.top_k"]) == ("0.9", "-1")
    assert "tree.seed" not in found
    for key, value, said in (
        ("data.max_response_length", 99, "set data.max_response_length=64"),
        ("scale.tree.delimiter", "+", "would with '\\+'"),
    ):
        with pytest.raises(MismatchError, match=said):
            searched_again(steps, manifest, with_values(facts.config, **{key: value}), trains_value_head=False)


# ---- real servers -------------------------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.slow
def test_trees_that_real_servers_search_together_are_each_the_tree_alone(tmp_path):
    """Visit for visit: steps, N, W and outcomes; log-probs to the digits that hang on who was in a batch with whom."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.trees_both_ways", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    together, alone = ({(t.problem_id, t.number): t for t in TreeDataset(tmp_path / n)} for n in ("together", "alone"))
    assert together.keys() == alone.keys()
    # 10 problems less the held-out one, two trees each.
    assert len(alone) == 18
    for name, tree in alone.items():
        for mine, other in zip(tree.nodes, together[name].nodes, strict=True):
            assert mine.prior == pytest.approx(other.prior, abs=1e-4)
            assert mine.log_probs == pytest.approx(other.log_probs, abs=1e-4)
            for field in ("parent", "depth", "token_ids", "text", "end", "status", "visits", "total", "children"):
                assert getattr(mine, field) == getattr(other, field), (name, field)
    ends = {node.end for tree in alone.values() for node in tree.nodes}
    assert {"open", "stop"} <= ends
    assert {"right", "wrong"} <= {node.status for tree in alone.values() for node in tree.nodes}


@pytest.mark.engine
@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_with_the_trees_that_are_missing(start, workspace, base_model):  # noqa: F811
    folder = workspace / "trees"
    # Random steps never end, and are wrong: a tree is its root and what hangs below.
    mine = (f"trees={folder}", f"run_dir={folder}", "tree.trees=24", "tree.at_once=16", "tree.max_step_tokens=4")

    def parts():
        return {part.name: part.read_bytes() for part in sorted(folder.glob("part-*.parquet"))}

    running = start("collect_tree", *mine)
    running.wait_until(parts, patience_s=900)
    running.kill("ray::vLLMHttpServer")
    assert running.ended() == 1
    assert running.output.strip().splitlines()[-1].startswith("error: ")
    kept = parts()
    assert not (folder / "manifest.json").exists()
    done = train("collect_tree", workspace, base_model, *mine)
    assert "nothing to prefer in" in done.stderr, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert parts().items() >= kept.items()
    dataset = TreeDataset(folder)
    # None is missing, and none is there twice.
    dataset.verify()
    # 16 problems less the 2 held out.
    assert dataset.manifest.counts["trees"] == 14 * 24
    assert dataset.manifest.origin["trees_missing"] == 0
    assert len(read_problems(f"{folder}/train.parquet")) == 14
    assert len(read_problems(f"{folder}/validation.parquet")) == 2
    assert (count := read_count(folder)) is not None
    assert (count.done, count.total, count.unit) == (14 * 24, 14 * 24, "trees")
    spending = read_spending(folder)
    assert spending.finished
    assert {record["attempt"] for record in read_ledger(folder)} == {1, 2}
    assert dataset.manifest.cost["device_seconds"]["generation"] == pytest.approx(spending.device_seconds["generation"])
    # What the kill cost was sampled as well.
    assert spending.generated_tokens >= dataset.manifest.counts["sampled_tokens"]
    again = train("collect_tree", workspace, base_model, *mine)
    assert "collected before" in again.stdout
    other = train("collect_tree", workspace, base_model, *mine, "tree.c=2")
    assert "was begun with another search.c (1.25, now 2)" in other.stderr
