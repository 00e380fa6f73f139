"""Rollout datasets of trees: what is in them, that they are the same again, and what is said where nothing trains."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpa_verl.data_check import check_dataset
from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.rollouts import RolloutDataset, Selection
from fpa_verl.rollouts.schema import to_table
from fpa_verl.trees import PairRules, SearchSettings, SolutionRules, TreeDataset, datasets, solutions, step_pairs
from fpa_verl.trees.datasets import count_pairs, write_solutions, write_steps
from fpa_verl.trees.tree import ROOT
from tests.trees.conftest import COST, SEARCH, searched_trees
from tests.trees.toy import NOTES, TWO, Drawn, Marks, Toy, searched, toys

ALL = PairRules(gap=0.1, outcome_filter=False, choice="all", per_problem=None, distinct=False)
WRITERS = [(write_steps, ALL), (write_solutions, SolutionRules())]
each_writer = pytest.mark.parametrize(("write", "rules"), WRITERS, ids=["steps", "solutions"])


def pairs_of(folder: Path) -> list[list[dict]]:
    dataset = RolloutDataset(folder, Selection(unit="pair"))
    return [dataset.rows(item) for item in range(len(dataset))]


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# ---- what is in them ----------------------------------------------------------------------------


def test_every_pair_is_an_item_and_says_what_the_tree_says(trees, tmp_path):
    write_steps(TreeDataset(trees), tmp_path / "d", ALL)
    wanted = [(group, pair) for group in TreeDataset(trees).by_problem() for pair in step_pairs(group, ALL)]
    found = pairs_of(tmp_path / "d")
    assert len(found) == len(wanted) > 20
    for (group, pair), (chosen, rejected) in zip(wanted, found, strict=True):
        nodes = group[pair.tree].nodes
        assert (chosen["role"], chosen["status"], chosen["score"], chosen["sample"]) == ("chosen", "right", 1, 0)
        assert (rejected["role"], rejected["status"], rejected["score"], rejected["sample"]) == (
            *("rejected", "wrong"),
            *(0, 1),
        )
        for row, number in ((chosen, pair.chosen), (rejected, pair.rejected)):
            assert row["problem_id"] == pair.problem_id
            assert row["prompt_ids"] == list(pair.prefix_ids)
            assert row["response_ids"] == list(nodes[number].token_ids)
            assert row["behaviour_log_probs"] == pytest.approx(nodes[number].log_probs)
            assert row["finish_reason"] == ("stop_text" if nodes[number].end == "open" else "stop")
            steps = group[pair.tree].steps_to(number)
            # Each step of the toy is a token.
            assert row["step_ends"] == list(range(1, 1 + len(steps)))
            assert row["step_values"] == pytest.approx([step.q for step in steps])
        assert chosen["step_values"][-1] - rejected["step_values"][-1] == pytest.approx(pair.gap)


def test_solutions_are_those_that_the_rules_keep_with_the_ends_of_their_steps(trees, tmp_path):
    manifest = write_solutions(TreeDataset(trees), tmp_path / "d", SolutionRules())
    wanted = [
        row
        for group in TreeDataset(trees).by_problem()
        for row in solutions(group, SolutionRules(), SEARCH, top_p=0.9, top_k=5)
    ]
    assert manifest.counts["trajectories"] == len(wanted)
    dataset = RolloutDataset(tmp_path / "d", Selection())
    rows = to_table(wanted).to_pylist()
    for (row,) in dataset.items:
        found = dataset.row(row)
        assert {name: found[name] for name in rows[row]} == rows[row]
        assert len(found["step_ends"]) == len(found["response_ids"])
        assert found["step_values"][-1] == (1 if found["status"] == "right" else -1)


@given(toys(), st.integers(1, 20))
def test_step_ends_are_those_of_visited_steps(toy, simulations):
    tree = searched(toy, SearchSettings(children=2, simulations=simulations, depth=3), sampler=Drawn(toy))
    for number in range(len(tree.nodes)):
        ends, values = datasets.step_values(tree, number)
        way = [node for node in tree.steps_to(number) if node.visits]
        assert values == [node.q for node in way]
        # A parent was visited before its children: what is left out stands at the end.
        assert ends == list(range(1, 1 + len(way)))


def test_a_solution_that_the_scorer_could_not_tell_has_no_value_at_its_end():
    tree = searched(NOTES, TWO, judge=Marks(NOTES, failed=frozenset({"A2"})))
    row = next(one for one in solutions([tree], SolutionRules(), TWO) if one.status == "timeout")
    assert (len(row.response_ids), list(row.step_ends)) == (2, [1])


def test_prompts_of_several_tokens_shift_the_ends():
    tree = searched(NOTES, TWO)
    tree.nodes[ROOT] = replace(tree.nodes[ROOT], token_ids=(9, 9, 9))
    assert datasets.step_values(tree, tree.nodes[ROOT].children[0])[0] == [3]


@each_writer
def test_the_manifest_has_the_cost_and_the_names_of_the_search(trees, tmp_path, write, rules):
    searched_by = TreeDataset(trees).manifest
    manifest = write(TreeDataset(trees), tmp_path / "d", rules)
    assert (manifest.cost, manifest.device_seconds) == (COST, 12)
    for name in ("fingerprints", "validation", "versions"):
        assert getattr(manifest, name) == getattr(searched_by, name)
    assert manifest.sampling == {"top_p": 0.9, "top_k": 5, "temperature": 1.0, "max_response_tokens": 2048}
    assert manifest.vocabulary_size == 99
    assert (manifest.is_from_trees, manifest.is_imported) == (True, False)
    assert manifest.holds_steps == (write is write_steps)
    assert manifest.origin["trees"] == searched_by.fingerprint
    assert manifest.origin["rules"] == asdict(rules)
    assert (tmp_path / "d" / manifest.origin["folder"]).resolve() == trees
    assert manifest.origin["sampled_tokens"] == searched_by.counts["sampled_tokens"]


def test_what_pairs_there_are(trees, tmp_path):
    manifest = write_steps(TreeDataset(trees), tmp_path / "d", PairRules())
    found = count_pairs(tmp_path / "d", manifest)
    pairs = [pair for group in TreeDataset(trees).by_problem() for pair in step_pairs(group, PairRules())]
    assert found.by_depth == {depth: sum(pair.depth == depth for pair in pairs) for depth in found.by_depth}
    assert (found.pairs, found.problems) == (len(pairs), len({pair.problem_id for pair in pairs}))
    assert found.mean_gap == pytest.approx(np.mean([pair.gap for pair in pairs]))


@each_writer
def test_nothing_is_wrong_with_them(trees, tmp_path, write, rules):
    write(TreeDataset(trees), tmp_path / "d", rules)
    RolloutDataset(tmp_path / "d").verify()
    findings = list(check_dataset(tmp_path / "d", sample=0))
    # The toy's problem is the same throughout, held out or not.
    assert [one for one in findings if one.state == "wrong" and one.subject != "contamination"] == []
    problems = next(one for one in findings if one.subject == "problems")
    assert "5 in train.parquet, 1 in validation.parquet, those of the manifest" in problems.detail


# ---- made again ---------------------------------------------------------------------------------


@each_writer
def test_made_again_they_are_the_same_to_the_byte(trees, tmp_path, write, rules):
    for name in ("a", "b"):
        write(TreeDataset(trees), tmp_path / name, rules)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_what_is_there_is_not_made_again(trees, tmp_path):
    manifest = write_steps(TreeDataset(trees), tmp_path / "d", ALL)
    dataset = TreeDataset(trees)
    for part in trees.glob("part-*.parquet"):
        part.unlink()
    assert write_steps(dataset, tmp_path / "d", ALL) == manifest


@pytest.mark.parametrize("lost", ["manifest.json", "part-00001.parquet", "index.parquet"])
def test_one_that_was_interrupted_is_finished_as_if_it_had_not_been(trees, tmp_path, monkeypatch, lost):
    monkeypatch.setattr(datasets, "SHARD_ROWS", 20)
    write_steps(TreeDataset(trees), tmp_path / "d", ALL)
    whole = content(tmp_path / "d")
    assert "part-00001.parquet" in whole
    for name in {lost, "manifest.json"}:
        (tmp_path / "d" / name).unlink()
    write_steps(TreeDataset(trees), tmp_path / "d", ALL)
    assert content(tmp_path / "d") == whole


def test_trees_and_dataset_may_be_moved_together(trees, tmp_path):
    write_steps(TreeDataset(trees), trees / "steps", ALL)
    shutil.move(trees, tmp_path / "elsewhere")
    folder = tmp_path / "elsewhere" / "steps"
    dataset = RolloutDataset(folder)
    assert (folder / dataset.manifest.origin["folder"]).resolve() == tmp_path / "elsewhere"
    assert write_steps(TreeDataset(tmp_path / "elsewhere"), folder, ALL) == dataset.manifest


def test_other_rules_and_other_trees_are_refused(trees, tmp_path):
    write_steps(TreeDataset(trees), tmp_path / "d", ALL)
    with pytest.raises(MismatchError, match=r"another rules.gap \(0.1, now 0.2\): name another folder, or delete"):
        write_steps(TreeDataset(trees), tmp_path / "d", replace(ALL, gap=0.2))
    with pytest.raises(MismatchError, match=r"made \(steps, now solutions\)"):
        write_solutions(TreeDataset(trees), tmp_path / "d", SolutionRules())
    with pytest.raises(MismatchError, match="name another folder"):
        write_steps(TreeDataset(trees), trees, ALL)


def test_trees_in_the_place_of_a_dataset_say_what_to_name(trees):
    with pytest.raises(DatasetError, match=f"data steps {trees}` and .*: name {trees}/steps or {trees}/solutions"):
        RolloutDataset(trees)


# ---- where nothing trains -----------------------------------------------------------------------


def test_rules_that_leave_no_pair_say_which_ones_would(trees, tmp_path):
    strict = PairRules(visits=10, gap=1.9)
    with pytest.raises(DatasetError, match=r"no pair of steps .*: visits=1 gives \d+; or search again with more"):
        write_steps(TreeDataset(trees), tmp_path / "d", strict)
    # So that others may be tried in the same place.
    assert not (tmp_path / "d").exists()
    write_steps(TreeDataset(trees), tmp_path / "d", replace(strict, visits=1))


def test_rules_that_leave_no_pair_are_loosened_one_by_one_and_then_together(all_wrong, tmp_path):
    with pytest.raises(DatasetError, match=r"by these rules: outcome_filter=false gives \d+; or"):
        write_steps(TreeDataset(all_wrong), tmp_path / "d", PairRules(gap=0.1))
    with pytest.raises(DatasetError, match=r"by these rules: gap=0.0 outcome_filter=false gives \d+; or"):
        write_steps(TreeDataset(all_wrong), tmp_path / "d", PairRules())


def test_trees_without_a_difference_ask_for_more_search(tmp_path):
    trees = searched_trees(tmp_path / "trees", Toy({"": {"A": 1.0}}, frozenset({"A"})), problems=1)
    with pytest.raises(DatasetError, match="no two visited steps behind one prefix differ in Q; search again"):
        write_steps(TreeDataset(trees), tmp_path / "d", PairRules())


def test_solutions_of_one_kind_say_which_and_what_helps(all_wrong, tmp_path):
    said = r"\(0 right and \d+ wrong ones of 2 problems\): search again .*, or with easier problems"
    with pytest.raises(DatasetError, match=said):
        write_solutions(TreeDataset(all_wrong), tmp_path / "d", SolutionRules())
    assert not (tmp_path / "d").exists()
