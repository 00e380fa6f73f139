"""`fpa-verl data steps`, `data solutions`, and `data show` of trees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fpa_verl.cli.console import console
from fpa_verl.cli.manifests import print_about, print_counts
from fpa_verl.cli.options import settings_of
from fpa_verl.commands import Command
from fpa_verl.errors import ConfigError, DatasetError, MismatchError

Trees = Annotated[Path, typer.Argument(help="A tree dataset, which recipe=collect_tree searches.")]


def steps(
    trees: Trees,
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            help="KEY=VALUE: visits, gap, outcome_filter, choice, parents, per_problem, per_depth, distinct "
            "(docs/svpo.md)."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The dataset folder to write; default: TREES/steps.")] = None,
) -> None:
    """Make a rollout dataset of step pairs from searched trees, for recipe=step_dpo; needs no server."""
    from fpa_verl.rollouts.manifest import STEPS
    from fpa_verl.trees import PairRules, TreeDataset, write_steps
    from fpa_verl.trees.datasets import count_pairs

    folder = out or trees / STEPS
    with _naming_another():
        manifest = write_steps(TreeDataset(trees), folder, settings_of(PairRules, rules or []))
    found = count_pairs(folder, manifest)
    lines = [
        f"{folder}: {found.pairs:,} pairs from {found.problems:,} problems, mean gap {found.mean_gap:.2f}",
        *(f"  depth {depth}: {number:,}" for depth, number in found.by_depth.items()),
    ]
    _say(lines, "step_dpo", folder)


def solutions(
    trees: Trees,
    rules: Annotated[list[str] | None, typer.Argument(help="KEY=VALUE: right, wrong, distinct (docs/svpo.md).")] = None,
    out: Annotated[Path | None, typer.Option(help="The dataset folder to write; default: TREES/solutions.")] = None,
) -> None:
    """Make a rollout dataset of whole solutions from searched trees, for any offline recipe; needs no server."""
    from fpa_verl.rollouts.manifest import SOLUTIONS
    from fpa_verl.trees import SolutionRules, TreeDataset, write_solutions

    folder = out or trees / SOLUTIONS
    with _naming_another():
        counts = write_solutions(TreeDataset(trees), folder, settings_of(SolutionRules, rules or [])).counts
    lines = [
        f"{folder}: {counts['trajectories']:,} solutions of {counts['groups']:,} problems, "
        f"{counts.get('status_right', 0):,} of them right",
        f"  {counts['trainable_trajectories']:,} train, of the {counts['groups_mixed']:,} problems that have both",
    ]
    _say(lines, "dpo", folder)


@contextmanager
def _naming_another() -> Iterator[None]:
    """Say of a folder that holds something else how another one is named."""
    try:
        yield
    except MismatchError as error:
        raise MismatchError(f"{error}; --out FOLDER names another") from error


def _say(lines: list[str], recipe: str, folder: Path) -> None:
    for line in (*lines, f"next: {Command().for_recipe(recipe, {'rollouts': str(folder)})}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_trees(folder: Path, problem: str | None, number: int | None) -> None:
    """What `data show` prints of a tree dataset: the tree that is asked for; or what there is, and a small tree.

    Args:
        folder: the dataset's.
        problem: whose trees.
        number: which of them; None: all.

    Raises:
        ConfigError: a number without a problem.
        DatasetError: no such tree; or the dataset is damaged.
    """
    from fpa_verl.trees import TreeDataset, step_pairs
    from fpa_verl.trees.datasets import pair_rules, small_tree
    from fpa_verl.trees.drawing import draw

    trees = TreeDataset(folder)
    rules = pair_rules(trees)
    if problem is not None:
        group = trees.of_problem(problem)
        chosen = [tree for tree in group if number in (None, tree.number)]
        if not chosen:
            known = ", ".join(str(tree.number) for tree in group)
            raise DatasetError(f"{folder} has no tree {number} of problem '{problem}': give --tree one of {known}")
        pairs = step_pairs(group, rules)
    elif number is not None:
        raise ConfigError(f"--tree {number}: whose? Give --problem ID as well")
    else:
        trees.verify()
        manifest = trees.manifest
        print_counts(folder, manifest.counts)
        print_about(manifest.fingerprints, manifest.cost)
        small, pairs = small_tree(trees, rules)
        chosen = [small]
    for tree in chosen:
        title = f"{tree.problem_id}, tree {tree.number}, answer {tree.ground_truth}"
        console.print(draw(tree, title, pairs), highlight=False, markup=False, soft_wrap=True)
