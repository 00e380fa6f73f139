"""The tree dataset: a folder of parts, whole trees in each, and a manifest, written last.

plan.json        what is being made: fingerprints, how it is searched and sampled
part-*.parquet   nodes, a row each
manifest.json    checksums of the parts, counts, cost, and its own checksum
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.manifest import (
    MANIFEST_FILE,
    OF_TREES,
    REMEDY,
    FileRecord,
    digest_of,
    file_record,
    require_inside,
    require_whole,
)
from fpa_verl.rollouts.parquet import open_file, read_table
from fpa_verl.rollouts.schema import schema_difference
from fpa_verl.rollouts.sealed_json import read_sealed_json, write_sealed_json
from fpa_verl.rollouts.writer import PartWriter
from fpa_verl.trees.checks import faults
from fpa_verl.trees.schema import SCHEMA, rows_of_trees, to_table, tree_of
from fpa_verl.trees.tree import Tree

KIND, FORMAT_VERSION = OF_TREES, 1
DICTS = ("fingerprints", "search", "sampling", "counts", "cost", "origin", "validation", "versions")


@dataclass(frozen=True)
class TreeManifest:
    """Everything known about a tree dataset except its nodes.

    Attributes:
        fingerprints: model, tokenizer, template, scorer, problems.
        search: `SearchSettings` as a dictionary, and what else says how steps are sampled.
        sampling: top_p and top_k; the rest is the search's.
        counts: see `count`.
        cost: device_seconds by phase, devices, device.
        origin: from what the trees came about.
        validation: fraction of problems held out and the seed that chose them.
        versions: package to version, of those that took part.
        kind, format_version: what tells it from other manifests.
    """

    fingerprints: dict[str, str]
    search: dict[str, Any]
    sampling: dict[str, Any]
    counts: dict[str, int]
    cost: dict[str, Any]
    origin: dict[str, Any]
    validation: dict[str, Any]
    versions: dict[str, str]
    shards: list[FileRecord] = field(default_factory=list)
    kind: str = KIND
    format_version: int = FORMAT_VERSION

    @property
    def fingerprint(self) -> str:
        """Digest of the dataset's parts."""
        return digest_of(self.shards)


def count(trees: Iterable[Tree]) -> dict[str, int]:
    """Problems, trees, nodes, those that were visited, expansions, solutions by status, sampled tokens."""
    found: Counter[str] = Counter()
    problems = set()
    for tree in trees:
        problems.add(tree.problem_id)
        found["trees"] += 1
        found["sampled_tokens"] += tree.sampled_tokens
        for node in tree.nodes:
            found["nodes"] += 1
            found["visited_nodes"] += node.visits > 0
            found["expansions"] += bool(node.children)
            if node.status is not None:
                found[f"end_{node.end}"] += 1
                found[f"status_{node.status}"] += 1
    return {"problems": len(problems), **{name: found[name] for name in sorted(found)}}


class TreeWriter(PartWriter):
    """Writes the parts of a tree dataset, then its manifest; an interrupted one goes on where it stopped."""

    def trees_done(self) -> set[tuple[str, int]]:
        """Problem and number of the trees that are on disk already."""
        return self._done("problem_id", "tree")

    def add(self, trees: Sequence[Tree]) -> None:
        """Write one part of whole trees."""
        self._append(to_table(trees))

    def finish(self, **manifest: Any) -> TreeManifest:
        """Digest the parts, read back, and write the manifest from `manifest`'s other fields.

        Raises:
            DatasetError: a part is damaged; it says where.
        """
        counts = count(tree for part in self._parts() for tree in _read(part))
        shards = [FileRecord.of(part, open_file(part).metadata.num_rows) for part in self._parts()]
        result = TreeManifest(counts=counts, shards=shards, **manifest)
        write_sealed_json(self.folder / MANIFEST_FILE, asdict(result))
        return result


class TreeDataset:
    """A finished tree dataset; trees are read a part at a time, and checked before they are handed out.

    Raises:
        DatasetError: no such dataset, not finished, or a part is missing or cut off. Damage inside a part shows when it
            is read, and is said with file, row and column.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.manifest = read_tree_manifest(self.folder)
        for record in self.manifest.shards:
            require_whole(self.folder, record)

    def __iter__(self) -> Iterator[Tree]:
        """All trees, in the order in which they were written."""
        for record in self.manifest.shards:
            yield from _read(require_whole(self.folder, record, checksum=True))

    def by_problem(self) -> Iterator[list[Tree]]:
        """All trees of a problem together, by their numbers, whatever the order they were written in.

        In memory are those of a part, and of problems that go on in a later one.
        """
        parts = [require_whole(self.folder, record, checksum=True) for record in self.manifest.shards]
        last = {name: part for part in parts for name in read_table(part, ["problem_id"])["problem_id"].to_pylist()}
        found: dict[str, list[Tree]] = defaultdict(list)
        for part in parts:
            for tree in _read(part):
                found[tree.problem_id].append(tree)
            for name in [name for name in found if last[name] == part]:
                yield sorted(found.pop(name), key=lambda tree: tree.number)

    def of_problem(self, problem_id: str) -> list[Tree]:
        """A problem's trees, by their numbers.

        Raises:
            DatasetError: there are none.
        """
        names = []
        for trees in self.by_problem():
            if trees[0].problem_id == problem_id:
                return trees
            names.append(trees[0].problem_id)
        raise DatasetError(
            f"{self.folder} has no tree of problem '{problem_id}': it has trees of {len(names):,} problems, such as "
            f"{', '.join(names[:3])}"
        )

    def verify(self) -> None:
        """Read everything and compare it with checksums and counts.

        Raises:
            DatasetError: naming file, row and column, a tree that is there twice, or the count that differs.
        """
        names = Counter((tree.problem_id, tree.number) for tree in self)
        for (problem_id, number), times in names.items():
            if times > 1:
                raise DatasetError(f"{self.folder} has tree {number} of problem {problem_id} {times} times: {REMEDY}")
        counted, written = count(self), self.manifest.counts
        for name in sorted({*counted, *written}):
            if counted.get(name) != written.get(name):
                raise DatasetError(
                    f"{self.folder / MANIFEST_FILE}: {name} is {written.get(name)}, by the parts {counted.get(name)}; "
                    f"{REMEDY}"
                )


def _read(part: Path) -> Iterator[Tree]:
    """The trees of a part."""
    table = read_table(part)
    if difference := schema_difference(table.schema, SCHEMA):
        raise DatasetError(f"{part}: {difference}")
    for first, rows in rows_of_trees(table.select(SCHEMA.names)):
        for fault in faults(rows, first):
            raise DatasetError(f"{part}, row {fault.row}: {fault}; {REMEDY}")
        yield tree_of(rows)


def holds_trees(folder: Path) -> bool:
    """Whether a folder says that it is a tree dataset, whole or not."""
    file = folder / MANIFEST_FILE
    return file.is_file() and read_sealed_json(file, REMEDY)[0].get("kind") == KIND


def read_tree_manifest(folder: Path) -> TreeManifest:
    """The manifest of a finished tree dataset.

    Raises:
        DatasetError: no such folder, not finished, of another kind or format, damaged, or naming files elsewhere.
    """
    file = folder / MANIFEST_FILE
    if not file.is_file():
        raise DatasetError(
            f"no finished tree dataset at {folder}: repeat the command that was making it, which goes on where it "
            "stopped, or name another folder"
        )
    raw, is_sealed = read_sealed_json(file, REMEDY)
    if (raw.get("kind"), raw.get("format_version")) != (KIND, FORMAT_VERSION):
        raise DatasetError(
            f"{file} is of kind {raw.get('kind')!r}, format {raw.get('format_version')!r}, where {KIND!r}, "
            f"{FORMAT_VERSION} is wanted: name the folder of a tree dataset"
        )
    if not is_sealed:
        raise DatasetError(f"{file} is damaged (its checksum is gone): {REMEDY}")
    try:
        manifest = TreeManifest(**{**raw, "shards": [file_record(shard) for shard in raw["shards"]]})
        if wrong := [name for name in DICTS if not isinstance(getattr(manifest, name), dict)]:
            raise TypeError(f"{wrong[0]} is {getattr(manifest, wrong[0])!r}")
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{file} is damaged ({error!r}): {REMEDY}") from error
    require_inside(file, manifest.shards)
    return manifest
