"""One of the searched trees that runs learned from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fpa_verl.errors import DatasetError
from fpa_verl.report.figures import Figure
from fpa_verl.report.figures.trees import MOST, draw_tree
from fpa_verl.rollouts.manifest import Manifest, read_manifest
from fpa_verl.runs.inputs import TREES
from fpa_verl.runs.run import Run
from fpa_verl.trees import PairRules, TreeDataset
from fpa_verl.trees.datasets import pair_rules, small_tree


@dataclass(frozen=True)
class SearchedTree:
    """What the page shows of trees; where that is nothing, `why_none`.

    Attributes:
        title: problem, number and answer.
        note: what is not drawn.
    """

    figure: Figure | None = None
    title: str = ""
    note: str = ""
    why_none: str = ""


def read_tree(runs: list[Run]) -> SearchedTree | None:
    """A small tree of the first trees that are at hand; None where no run learned from any."""
    reasons = []
    for folder in _folders(runs):
        try:
            return _of_dataset(folder)
        except (DatasetError, OSError) as error:
            reasons.append(str(error))
    return SearchedTree(why_none="; ".join(reasons)) if reasons else None


def _folders(runs: list[Run]) -> Iterator[Path]:
    """Of the datasets that were made from trees, each once."""
    found = [run.dataset for run in runs if run.dataset and TREES in run.dataset.about]
    yield from dict.fromkeys(Path(dataset.folder) for dataset in found)


def _of_dataset(folder: Path) -> SearchedTree:
    manifest = read_manifest(folder)
    trees = TreeDataset(folder / str(manifest.origin.get("folder", "")))
    if trees.manifest.fingerprint != manifest.origin.get(TREES):
        raise DatasetError(f"{trees.folder} holds other trees by now than {folder} was made from")
    tree, pairs = small_tree(trees, _rules(manifest, trees))
    left_out = len(tree.nodes) - MOST
    return SearchedTree(
        draw_tree(tree, pairs),
        f"{tree.problem_id}, tree {tree.number}, answer {tree.ground_truth}",
        f"It has {len(tree.nodes):,} steps: drawn are the most visited, and those of pairs." if left_out > 0 else "",
    )


def _rules(manifest: Manifest, trees: TreeDataset) -> PairRules:
    """Those of the pairs that the run learned from, or of those that were made beside."""
    return PairRules(**manifest.origin["rules"]) if manifest.holds_steps else pair_rules(trees)
