"""The page's picture of a searched tree: which one, what is in it, and what is said where there is none."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fpa_verl.report.comparisons import wallclock
from fpa_verl.report.figures import write
from fpa_verl.report.figures.trees import draw_tree, nodes_shown
from fpa_verl.report.output import write_report
from fpa_verl.report.page.trees import read_tree
from fpa_verl.roles import CHOSEN, REJECTED
from fpa_verl.runs.find import find_runs
from fpa_verl.trees import PairRules, SearchSettings, Tree, TreeDataset, step_pairs, write_solutions, write_steps
from fpa_verl.trees.datasets import small_tree
from fpa_verl.trees.drawing import roles_of
from fpa_verl.trees.solutions import SolutionRules
from fpa_verl.trees.tree import DELIMITED, ROOT, Step
from tests.runs.directories import make_run
from tests.trees.conftest import searched_trees
from tests.trees.toy import NOTES, TWO, Drawn, problem, searched, toys

RULES = PairRules(gap=1.5)


@pytest.fixture
def trees(tmp_path) -> Path:
    folder = searched_trees(tmp_path / "trees", problems=3)
    write_steps(TreeDataset(folder), folder / "steps", RULES)
    write_solutions(TreeDataset(folder), folder / "solutions", SolutionRules())
    return folder


def run_on(folder: Path, trees: Path, made: str):
    fingerprint = TreeDataset(trees).manifest.fingerprint if trees.exists() else "t"
    dataset = {"folder": str(trees / made), "fingerprint": "d", "device_seconds": 1.0, "cost": {}, "trees": fingerprint}
    make_run(folder, [1, 2], dataset=dataset)


def svg(figure, tmp_path: Path) -> str:
    write(figure, tmp_path / "tree.svg", "svg")
    return (tmp_path / "tree.svg").read_text()


def said(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


# ---- the picture --------------------------------------------------------------------------------


def test_every_step_has_its_q_visits_and_outcome_and_pairs_are_told_apart():
    tree = searched(NOTES, TWO)
    figure = draw_tree(tree, step_pairs([tree], PairRules()))
    assert sorted(said(figure)) == sorted(
        [
            *("p0\nQ -0.18  N 11", "A\nQ -0.20  N 5", "A1\nQ +0.00  N 3", "A2\nQ -1.00  N 1  wrong"),
            *("A11\nQ +1.00  N 1  right  chosen", "A12\nQ -1.00  N 1  wrong  rejected"),
            *("B\nQ -0.20  N 5", "B1\nQ -1.00  N 1  wrong", "B2\nQ +0.00  N 3"),
            *("B21\nQ +1.00  N 1  right  chosen", "B22\nQ -1.00  N 1  wrong  rejected"),
        ]
    )
    boxes = {text.get_text().split("\n")[0]: text.get_bbox_patch() for text in figure.axes[0].texts}
    assert boxes["A11"].get_linewidth() == boxes["A12"].get_linewidth() > boxes["A2"].get_linewidth()
    assert (boxes["A11"].get_linestyle(), boxes["A12"].get_linestyle()) != ("solid", "solid")
    red, _, blue, _ = boxes["A11"].get_facecolor()
    assert blue > red
    # No two boxes lie in one place.
    assert len({text.get_position() for text in figure.axes[0].texts}) == 11


def test_a_step_that_was_never_visited_has_no_value():
    tree = searched(NOTES, SearchSettings(children=2, simulations=100, stop_at_exhausted=True))
    assert "B2\nnot visited" in said(draw_tree(tree, []))


def test_what_a_model_wrote_is_no_formula_and_every_character_can_be_drawn(tmp_path, recwarn):
    tree = Tree.of(problem(), 0, (1,))
    tree.add(ROOT, Step((1,), (-0.1,), "$\\frac{1}\n</svg>漢字", DELIMITED), "open", None)
    figure = draw_tree(tree, [])
    assert said(figure)[1].startswith("$\\frac{1}⏎</svg>□□\n")
    assert svg(figure, tmp_path).count("</svg>") == 1
    assert [str(one.message) for one in recwarn if "Glyph" in str(one.message)] == []


@given(toys(), st.integers(1, 30), st.integers(1, 12))
def test_of_a_large_tree_the_most_visited_are_drawn_and_whole_ways_down(toy, simulations, most):
    tree = searched(toy, SearchSettings(children=3, simulations=simulations, depth=9), sampler=Drawn(toy))
    roles = roles_of(tree, step_pairs([tree], PairRules(gap=0.1)))
    shown = nodes_shown(tree, set(roles), most)
    assert roles.keys() <= shown
    assert len(shown) == min(len(tree.nodes), max(most, len(nodes_shown(tree, set(roles), 0))))
    assert all(tree.nodes[one].parent in shown for one in shown if one != ROOT)
    assert nodes_shown(tree, set(roles), len(tree.nodes)) == set(range(len(tree.nodes)))


def test_the_same_tree_gives_the_same_bytes(tmp_path):
    tree = searched(NOTES, TWO)
    first, second = (svg(draw_tree(tree, step_pairs([tree], PairRules())), tmp_path) for _ in range(2))
    assert first == second


# ---- the page -----------------------------------------------------------------------------------


def test_the_page_of_a_run_on_step_pairs_has_a_tree_with_its_pairs(trees, tmp_path):
    run_on(tmp_path / "runs" / "a", trees, "steps")
    write_report(wallclock.compare(find_runs([tmp_path / "runs"])), tmp_path / "out", Console(quiet=True))
    page = (tmp_path / "out" / "report.html").read_text()
    tree, _ = small_tree(TreeDataset(trees), RULES)
    assert f"{tree.problem_id}, tree {tree.number}, answer 3. Each box is a step" in " ".join(page.split())
    assert re.search(r'<svg role="img" aria-label="tree"', page)


@pytest.mark.parametrize("made", ["steps", "solutions"])
def test_pairs_are_those_that_were_made(trees, tmp_path, made):
    run_on(tmp_path / "runs" / "a", trees, made)
    found = read_tree(find_runs([tmp_path / "runs"]))
    tree, pairs = small_tree(TreeDataset(trees), RULES)
    roles = list(roles_of(tree, pairs).values())
    texts = said(found.figure)
    assert len(roles) > 1
    for role in (CHOSEN, REJECTED):
        assert sum(text.endswith(role) for text in texts) == roles.count(role)


def test_a_run_on_other_data_has_no_such_section(tmp_path):
    make_run(tmp_path / "runs" / "a", [1, 2], dataset={"fingerprint": "d", "device_seconds": 0.0, "cost": {}})
    assert read_tree(find_runs([tmp_path / "runs"])) is None


def test_trees_that_are_gone_or_others_by_now_are_said(trees, tmp_path):
    run_on(tmp_path / "runs" / "a", trees, "steps")
    runs = find_runs([tmp_path / "runs"])
    shutil.move(trees / "steps", tmp_path / "kept")
    shutil.rmtree(trees)
    searched_trees(trees, problems=2)
    shutil.move(tmp_path / "kept", trees / "steps")
    assert "holds other trees by now" in read_tree(runs).why_none
    for file in trees.glob("*.*"):
        file.unlink()
    assert "no finished tree dataset" in read_tree(runs).why_none
