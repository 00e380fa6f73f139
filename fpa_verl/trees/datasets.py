"""Rollout datasets made from a tree dataset: pairs of steps, each a group of its own, or whole solutions.

They are read, checked and trained on like any other. What they cost is what the search cost. Made again from the same
trees by the same rules, in the same place among them, they are the same to the byte.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from fpa_verl.errors import DatasetError
from fpa_verl.files import atomic_path
from fpa_verl.reward.verdicts import MODEL_STATUSES
from fpa_verl.rollouts.manifest import FROM_TREES, MANIFEST_FILE, SOLUTIONS, STEPS, Manifest, read_manifest
from fpa_verl.rollouts.parquet import read_table
from fpa_verl.rollouts.schema import FINISH_REASONS, STOPPED_AT_TEXT, TRAIN, VALIDATION, Trajectory
from fpa_verl.rollouts.writer import RolloutWriter, require_same_plan
from fpa_verl.trees.pairs import PairRules, StepPair, step_pairs
from fpa_verl.trees.search import SearchSettings
from fpa_verl.trees.settings import Settings
from fpa_verl.trees.solutions import SolutionRules, solutions
from fpa_verl.trees.store import TreeDataset
from fpa_verl.trees.targets import step_values
from fpa_verl.trees.tree import Tree

# Rows of a shard at most, where a problem has no more.
SHARD_ROWS = 8192
# Problems among whose trees a small one is looked for.
LOOKED_AT = 64
PROBLEM_FILES = tuple(f"{split}.parquet" for split in (TRAIN, VALIDATION))
# What gives more pairs.
LOOSER: dict[str, Any] = {"gap": 0.0, "visits": 1, "outcome_filter": False, "parents": "all"}
SEARCH_MORE = "search again with more simulations, more children or a higher temperature"


class NothingToTrainOnError(DatasetError):
    """Trees of which the rules leave nothing to train on; others may leave some."""


def write_steps(trees: TreeDataset, folder: Path, rules: PairRules) -> Manifest:
    """Make a dataset of step pairs; what is there already is not made again.

    A pair is a group of two rows, the preferred step first (right, score 1), then the other (wrong, score 0). Their
    prompt are the problem's and the steps before, their response the step's own tokens. `step_ends` and `step_values`
    hold the ends of the steps before and of its own, with their Q.

    Args:
        trees: the searched trees.
        folder: where it goes.
        rules: which steps make a pair.

    Raises:
        NothingToTrainOnError: no pair comes of the trees; it says what would give some.
        DatasetError: the trees are damaged.
        MismatchError: something else was made there, or by other rules.
    """
    sampling = _sampling(trees)

    def rows(found: list[Tree]) -> list[Trajectory]:
        by_number = {tree.number: tree for tree in found}
        pairs = enumerate(step_pairs(found, rules))
        return [row for group, pair in pairs for row in _sides(by_number[pair.tree], pair, group, sampling)]

    return _write(trees, folder, _Made(STEPS, rules, rows, lambda: _why_no_pair(trees, rules)))


def write_solutions(trees: TreeDataset, folder: Path, rules: SolutionRules) -> Manifest:
    """Make a dataset of whole solutions, a group a problem; what is there already is not made again.

    `step_ends` and `step_values` hold the ends of all their steps that were visited, with their Q.

    Args:
        trees: the searched trees.
        folder: where it goes.
        rules: which solutions are kept.

    Raises:
        NothingToTrainOnError: no problem has both a right and a wrong solution; it says what would help.
        DatasetError: the trees are damaged.
        MismatchError: something else was made there, or by other rules.
    """
    # Whoever sampled the steps may have settings beside the search's.
    known = {field.name for field in fields(SearchSettings)}
    search = SearchSettings(**{name: value for name, value in trees.manifest.search.items() if name in known})
    sampling = _sampling(trees)

    def rows(found: list[Tree]) -> list[Trajectory]:
        return solutions(found, rules, search, top_p=sampling["top_p"], top_k=sampling["top_k"])

    return _write(trees, folder, _Made(SOLUTIONS, rules, rows, lambda: _why_none_trains(trees)))


@dataclass(frozen=True)
class _Made:
    """What is made of trees.

    Attributes:
        name: one of `STEPS`, `SOLUTIONS`.
        rows: those of one problem's trees.
        why_none: why nothing trains on what came of all trees.
    """

    name: str
    rules: Settings
    rows: Callable[[list[Tree]], list[Trajectory]]
    why_none: Callable[[], str]


def _write(trees: TreeDataset, folder: Path, made: _Made) -> Manifest:
    plan = _plan(trees, made)
    require_same_plan(folder, plan)
    if (folder / MANIFEST_FILE).exists():
        return read_manifest(folder)
    # Before there is a folder, so that other rules may be tried in it.
    groups = _that_train(map(made.rows, trees.by_problem()), made.why_none)
    writer = RolloutWriter(folder, plan)
    for number, shard in enumerate(_shards(groups)):
        writer.replace_part(number, shard)
    _copy_problems(trees.folder, folder)
    about = {name: plan[name] for name in ("fingerprints", "sampling", "validation")}
    tree = trees.manifest
    return writer.finish(**about, cost=tree.cost, origin=_origin(trees, folder, plan), versions=tree.versions)


def _plan(trees: TreeDataset, made: _Made) -> dict[str, Any]:
    tree = trees.manifest
    return {
        "fingerprints": tree.fingerprints,
        "sampling": _sampling(trees),
        "validation": tree.validation,
        "trees": trees.manifest.fingerprint,
        "made": made.name,
        "rules": asdict(made.rules),
    }


def _sampling(trees: TreeDataset) -> dict[str, Any]:
    tree = trees.manifest
    usual = {"top_p": 1.0, "top_k": -1}
    return {**usual, **tree.sampling, **{name: tree.search[name] for name in ("temperature", "max_response_tokens")}}


def _origin(trees: TreeDataset, folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The trees', and how they were made use of. Where they are is said from the dataset: both may be moved."""
    return {
        **trees.manifest.origin,
        "kind": FROM_TREES,
        **{name: plan[name] for name in ("trees", "made", "rules")},
        "folder": os.path.relpath(trees.folder.resolve(), folder.resolve()),
        "sampled_tokens": trees.manifest.counts["sampled_tokens"],
    }


def _that_train(groups: Iterator[list[Trajectory]], why_none: Callable[[], str]) -> Iterable[list[Trajectory]]:
    """The same rows, at least one problem's of which train.

    Raises:
        NothingToTrainOnError: none do.
    """
    begun = []
    for rows in groups:
        begun.append(rows)
        if {row.score for row in rows if row.status in MODEL_STATUSES} == {0.0, 1.0}:
            return chain(begun, groups)
    raise NothingToTrainOnError(why_none())


def _shards(groups: Iterable[list[Trajectory]]) -> Iterator[list[Trajectory]]:
    """Rows of several problems together, those of one never apart."""
    shard: list[Trajectory] = []
    for rows in groups:
        if shard and len(shard) + len(rows) > SHARD_ROWS:
            yield shard
            shard = []
        shard += rows
    if shard:
        yield shard


def _sides(tree: Tree, pair: StepPair, group: int, sampling: dict[str, Any]) -> Iterator[Trajectory]:
    """The rows of a pair."""
    for sample, (number, status) in enumerate(((pair.chosen, "right"), (pair.rejected, "wrong"))):
        node = tree.nodes[number]
        ends, values = step_values(tree, number)
        yield Trajectory(
            problem_id=tree.problem_id,
            group=group,
            sample=sample,
            split=TRAIN,
            data_source=tree.data_source,
            ground_truth=tree.ground_truth,
            prompt_ids=list(pair.prefix_ids),
            response_ids=list(node.token_ids),
            behaviour_log_probs=list(node.log_probs),
            score=float(status == "right"),
            status=status,
            # A step that does not end the solution ends at the delimiter.
            finish_reason=node.end if node.end in FINISH_REASONS else STOPPED_AT_TEXT,
            step_ends=ends,
            step_values=values,
            **{name: sampling[name] for name in ("temperature", "top_p", "top_k", "max_response_tokens")},
        )


def _copy_problems(trees: Path, folder: Path) -> None:
    """The files of the problems, where the trees have them."""
    for name in PROBLEM_FILES:
        if (trees / name).is_file():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(trees / name, temporary)


# ---- where nothing comes of the trees ---------------------------------------------------------------


def _why_no_pair(trees: TreeDataset, rules: PairRules) -> str:
    """What stands against pairs, and what would give how many."""
    looser = {name: value for name, value in LOOSER.items() if getattr(rules, name) != value}
    alone = [{name: value} for name, value in looser.items()]
    tried = {_said(change): replace(rules, **change) for change in (*alone, looser)}
    found: Counter[str] = Counter()
    for group in trees.by_problem():
        found.update({said: len(step_pairs(group, changed)) for said, changed in tried.items()})
    helps = [said for said in map(_said, alone) if found[said]] or [said for said in tried if found[said]]
    gives = ", ".join(f"{said} gives {found[said]:,}" for said in helps)
    why = (
        f"{gives}; or {SEARCH_MORE}" if helps else f"no two visited steps behind one prefix differ in Q; {SEARCH_MORE}"
    )
    number = trees.manifest.counts["trees"]
    return f"no pair of steps comes of {trees.folder} ({number:,} trees) by these rules: {why}"


def _said(change: dict[str, Any]) -> str:
    words = (f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in change.items())
    return " ".join(words)


def _why_none_trains(trees: TreeDataset) -> str:
    counts = trees.manifest.counts
    right = counts.get("status_right", 0)
    wrong = sum(counts.get(f"status_{one}", 0) for one in MODEL_STATUSES if one != "right")
    return (
        f"no problem of {trees.folder} has both a right and a wrong solution ({right:,} right and {wrong:,} wrong ones "
        f"of {counts['problems']:,} problems): {SEARCH_MORE}, or with {'harder' if right else 'easier'} problems"
    )


# ---- what came of the trees -------------------------------------------------------------------------


@dataclass(frozen=True)
class PairCounts:
    """What a dataset of step pairs holds.

    Attributes:
        by_depth: pairs at each depth of their steps, from 1.
        problems: that they are of.
        mean_gap: of Q_w - Q_l.
    """

    by_depth: dict[int, int]
    problems: int
    mean_gap: float

    @property
    def pairs(self) -> int:
        return sum(self.by_depth.values())


def count_pairs(folder: Path, manifest: Manifest) -> PairCounts:
    """Of a dataset that `write_steps` made."""
    by_depth: Counter[int] = Counter()
    problems: set[str] = set()
    gaps: list[float] = []
    for shard in manifest.shards:
        table = read_table(folder / shard.file, ["problem_id", "step_values"])
        problems.update(table["problem_id"].to_pylist())
        values = table["step_values"].to_pylist()
        # A step that is visited has no step before it that is not.
        by_depth.update(len(one) for one in values[::2])
        gaps += [chosen[-1] - rejected[-1] for chosen, rejected in _in_twos(values)]
    return PairCounts(dict(sorted(by_depth.items())), len(problems), float(np.mean(gaps)))


def _in_twos(values: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(values[::2], values[1::2], strict=True)


# ---- looking at trees -------------------------------------------------------------------------------


def pair_rules(trees: TreeDataset) -> PairRules:
    """The rules by which pairs were made into the folder among the trees; without such, the usual ones."""
    folder = trees.folder / STEPS
    return PairRules(**read_manifest(folder).origin["rules"]) if (folder / MANIFEST_FILE).is_file() else PairRules()


def small_tree(trees: TreeDataset, rules: PairRules) -> tuple[Tree, list[StepPair]]:
    """A tree that a page has room for, and its problem's pairs.

    Of the trees of the first problems it is that of the fewest nodes among those that give a pair, or among all.
    """
    found = []
    for group in islice(trees.by_problem(), LOOKED_AT):
        pairs = step_pairs(group, rules)
        paired = {pair.tree for pair in pairs}
        found += [(tree.number not in paired, len(tree.nodes), tree, pairs) for tree in group]
    *_, tree, pairs = min(found, key=lambda one: one[:2])
    return tree, pairs
