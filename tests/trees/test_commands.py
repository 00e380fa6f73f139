"""`fpa-verl data steps`, `data solutions` and `data show` of trees."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fpa_verl.cli import app
from fpa_verl.errors import ConfigError, DatasetError, MismatchError
from fpa_verl.rollouts.manifest import read_manifest
from fpa_verl.trees import PairRules, TreeDataset, step_pairs
from fpa_verl.trees.datasets import small_tree
from fpa_verl.trees.drawing import draw


def said(*words: object) -> str:
    return CliRunner().invoke(app, ["data", *map(str, words)], catch_exceptions=False).output


def test_steps_say_what_came_of_the_trees(trees):
    pairs = [one for group in TreeDataset(trees).by_problem() for one in step_pairs(group, PairRules(gap=0.3))]
    mean = sum(pair.gap for pair in pairs) / len(pairs)
    first, *by_depth, after = said("steps", trees, "gap=0.3").splitlines()
    assert first == f"{trees}/steps: {len(pairs)} pairs from 5 problems, mean gap {mean:.2f}"
    depths = sorted({pair.depth for pair in pairs})
    assert by_depth == [f"  depth {depth}: {sum(pair.depth == depth for pair in pairs)}" for depth in depths]
    assert after == f"next: python -m verl.trainer.main recipe=step_dpo rollouts={trees}/steps"
    # The rules are kept, and the same command says the same again.
    assert said("steps", trees, "gap=0.3").startswith(first)
    assert read_manifest(trees / "steps").origin["rules"]["gap"] == 0.3


def test_every_rule_is_a_key(trees, tmp_path):
    rules = "visits=2 gap=0.1 outcome_filter=false choice=all parents=best_path per_problem=null per_depth=3"
    said("steps", trees, "--out", tmp_path / "d", *rules.split(), "distinct=false")
    assert read_manifest(tmp_path / "d").origin["rules"] == {
        "visits": 2,
        "gap": 0.1,
        "outcome_filter": False,
        "choice": "all",
        "parents": "best_path",
        "per_problem": None,
        "per_depth": 3,
        "distinct": False,
    }


def test_solutions_say_what_came_of_the_trees(trees, tmp_path):
    first, second, _ = said("solutions", trees, "--out", tmp_path / "d", "right=1", "wrong=2").splitlines()
    assert first == f"{tmp_path}/d: 15 solutions of 5 problems, 5 of them right"
    assert second == "  15 train, of the 5 problems that have both"


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["gp=1"], ConfigError, "gp=1: write KEY=VALUE, with a key of visits, gap, outcome_filter"),
        (["gap"], ConfigError, "gap: write KEY=VALUE"),
        (["gap=much"], ConfigError, "pairs.gap=much: a number of at least 0 and of at most 2"),
        (["outcome_filter=1"], ConfigError, "pairs.outcome_filter=1: true or false"),
        (["visits=99"], DatasetError, "visits=1 gives"),
    ],
)
def test_what_is_no_rule_is_named(trees, words, error, message):
    with pytest.raises(error, match=message):
        said("steps", trees, *words)
    assert not (trees / "steps").exists()


def test_other_rules_in_the_same_folder_say_how_to_name_another(trees):
    said("steps", trees)
    with pytest.raises(MismatchError, match=r"another rules.gap \(0.5, now 1.0\): .*; --out FOLDER names another$"):
        said("steps", trees, "gap=1.0")


def test_show_counts_and_draws_a_small_tree_with_the_pairs_that_were_made(trees):
    said("steps", trees, "gap=1.5")
    tree, pairs = small_tree(TreeDataset(trees), PairRules(gap=1.5))
    everything = [one for group in TreeDataset(trees).by_problem() for one in group]
    with_pair = {(pair.problem_id, pair.tree) for pair in pairs}
    assert (tree.problem_id, tree.number) in with_pair
    assert len(tree.nodes) <= max(len(one.nodes) for one in everything)
    shown = said("show", trees)
    assert "sampled tokens" in shown
    assert "cost: 12 device-seconds" in shown
    assert draw(tree, f"{tree.problem_id}, tree {tree.number}, answer 3", pairs) in shown


def test_show_draws_the_trees_of_a_problem(trees):
    group = TreeDataset(trees).of_problem("p3")
    both = said("show", trees, "--problem", "p3")
    assert [line for line in both.splitlines() if "tree" in line] == [
        line for tree in group for line in draw(tree, f"p3, tree {tree.number}, answer 3").splitlines()[:1]
    ]
    one = said("show", trees, "--problem", "p3", "--tree", 1)
    assert one.strip() == draw(group[1], "p3, tree 1, answer 3", step_pairs(group, PairRules())).strip()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--problem", "x"], DatasetError, "has no tree of problem 'x': it has trees of 5 problems, such as p0, p1"),
        (["--problem", "p0", "--tree", 7], DatasetError, "has no tree 7 of problem 'p0': give --tree one of 0, 1"),
        (["--tree", 1], ConfigError, "--tree 1: whose"),
        (["--row", "p0/0/0"], ConfigError, "holds trees, which have no rows: --problem"),
    ],
)
def test_what_is_not_there_is_named(trees, words, error, message):
    with pytest.raises(error, match=message):
        said("show", trees, *words)


def test_steps_are_shown_as_rollouts_are(trees):
    said("steps", trees)
    assert "groups mixed" in said("show", trees / "steps")
    assert "verdict: wrong, score 0" in said("show", trees / "steps", "--row", "p0/0/1")
    with pytest.raises(ConfigError, match="holds no trees: --row"):
        said("show", trees / "steps", "--problem", "p0")
