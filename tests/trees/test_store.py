"""The tree dataset: kept as it was, gone on with after a kill, and damage that is said with its place."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpa_verl.errors import DatasetError, MismatchError
from fpa_verl.files import sha256_of
from fpa_verl.rollouts import RolloutDataset, RolloutWriter
from fpa_verl.rollouts.parquet import write_table
from fpa_verl.rollouts.sealed_json import SEAL, write_sealed_json
from fpa_verl.trees import (
    PairRules,
    SearchSettings,
    SolutionRules,
    TreeDataset,
    TreeWriter,
    grow,
    solutions,
    step_pairs,
)
from fpa_verl.trees.checks import faults
from fpa_verl.trees.driver import Request
from fpa_verl.trees.growing import missing
from fpa_verl.trees.schema import rows_of_trees, to_table, tree_of
from fpa_verl.trees.tree import Step
from tests.rollouts.conftest import finish as finish_rollouts
from tests.trees.toy import NOTES, PROMPT, Drawn, Marks, problem, searched, toys

SEARCH = SearchSettings(children=3, simulations=6, trees=4)
PLAN = {"fingerprints": {"model": "m"}, "search": asdict(SEARCH), "sampling": {"top_p": 1.0, "top_k": -1}}
PROBLEMS = {f"p{place}": (problem(f"p{place}"), PROMPT) for place in range(5)}


def grown(folder: Path, search: SearchSettings = SEARCH, sampler=None, **options) -> TreeWriter:
    writer = TreeWriter(folder, PLAN)
    asyncio.run(grow(PROBLEMS, writer, search, sampler or Drawn(NOTES), Marks(NOTES), **options))
    return writer


def finish(writer: TreeWriter):
    cost = {"device_seconds": {"generation": 10.0}, "devices": 1, "device": "d"}
    return writer.finish(**writer.plan, cost=cost, origin={}, validation={}, versions={})


@pytest.fixture
def folder(tmp_path) -> Path:
    finish(grown(tmp_path / "trees", part=6))
    return tmp_path / "trees"


# ---- kept as it was -----------------------------------------------------------------------------


def test_trees_come_back_as_they_were_searched(folder):
    found = {(tree.problem_id, tree.number): tree for tree in TreeDataset(folder)}
    assert found.keys() == {(name, number) for name in PROBLEMS for number in range(4)}
    for number in range(4):
        assert found["p0", number] == searched(NOTES, SEARCH, sampler=Drawn(NOTES), number=number)


@given(toys(), st.integers(1, 12))
def test_any_tree_comes_back_and_nothing_is_wrong_with_it(toy, simulations):
    tree = searched(toy, SearchSettings(children=2, simulations=simulations, depth=3), sampler=Drawn(toy))
    ((first, rows),) = rows_of_trees(to_table([tree]))
    assert (first, list(faults(rows))) == (0, [])
    assert tree_of(rows) == tree


def test_the_manifest_counts(folder):
    dataset = TreeDataset(folder)
    dataset.verify()
    counts = dataset.manifest.counts
    assert (counts["problems"], counts["trees"]) == (5, 20)
    trees = list(dataset)
    assert counts["nodes"] == sum(len(tree.nodes) for tree in trees)
    assert counts["status_right"] == sum(node.status == "right" for tree in trees for node in tree.nodes)
    # Three tokens of three children at every expansion.
    assert counts["sampled_tokens"] == 3 * counts["expansions"]
    assert [record.rows for record in dataset.manifest.shards] == [
        sum(len(tree.nodes) for tree in trees[start : start + 6]) for start in range(0, 20, 6)
    ]


def test_trees_of_a_problem_come_together_by_their_numbers(folder):
    groups = list(TreeDataset(folder).by_problem())
    assert sorted(group[0].problem_id for group in groups) == sorted(PROBLEMS)
    assert all([tree.number for tree in group] == [0, 1, 2, 3] for group in groups)


def test_pairs_remade_from_a_kept_tree_are_the_same(folder):
    """Token ids, Q to the last bit; the datasets of them byte for byte: test_datasets.py."""
    rules = PairRules(outcome_filter=False, gap=0.1)
    before = [searched(NOTES, SEARCH, sampler=Drawn(NOTES), number=number) for number in range(4)]
    (kept,) = [group for group in TreeDataset(folder).by_problem() if group[0].problem_id == "p0"]
    pairs = step_pairs(kept, rules)
    assert pairs
    assert pairs == step_pairs(before, rules)


def test_solutions_are_a_rollout_dataset_that_trains(folder, tmp_path):
    writer = RolloutWriter(tmp_path / "rollouts", {"fingerprints": {"model": "m"}, "sampling": {"temperature": 1.0}})
    for trees in TreeDataset(folder).by_problem():
        writer.add(solutions(trees, SolutionRules(), SEARCH))
    finish_rollouts(writer)
    dataset = RolloutDataset(tmp_path / "rollouts")
    dataset.verify()
    dataset.require_items(1)
    (row, *_) = dataset.rows(0)
    assert row["prompt_ids"] == list(PROMPT)


# ---- gone on with -------------------------------------------------------------------------------


class Counting(Drawn):
    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__(NOTES)
        self.asked, self.fails_at = set(), fails_at

    async def steps(self, request: Request) -> list[Step]:
        if len(self.asked) == self.fails_at:
            raise OSError("the servers are gone")
        self.asked.add(request.seed)
        return await super().steps(request)


def test_what_is_on_disk_is_not_searched_again(folder, tmp_path):
    first, second = Counting(fails_at=40), Counting()
    with pytest.raises(OSError, match="gone"):
        grown(tmp_path / "again", sampler=first, at_once=3, part=2)
    writer = TreeWriter(tmp_path / "again", PLAN)
    done = writer.trees_done()
    assert 0 < len(done) < 20
    assert set(missing(PROBLEMS, writer, SEARCH)) | done == {(name, n) for name in PROBLEMS for n in range(4)}
    finish(grown(tmp_path / "again", sampler=second, at_once=3))
    assert by_name(tmp_path / "again") == by_name(folder)
    whole = Counting()
    grown(tmp_path / "whole", sampler=whole)
    assert second.asked < whole.asked


def by_name(folder: Path):
    return {(tree.problem_id, tree.number): tree for tree in TreeDataset(folder)}


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from fpa_verl.trees import TreeWriter, grow
from tests.trees.test_store import PLAN, PROBLEMS, SEARCH
from tests.trees.toy import toys, NOTES, Drawn, Marks

class Dying(Drawn):
    asked = 0
    async def steps(self, request):
        self.asked += 1
        if self.asked == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().steps(request)

writer = TreeWriter(Path(sys.argv[1]), PLAN)
asyncio.run(grow(PROBLEMS, writer, SEARCH, Dying(NOTES), Marks(NOTES), at_once=3, part=1))
"""


def test_killed_in_the_middle_it_goes_on(folder, tmp_path):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    before = TreeWriter(tmp_path / "killed", PLAN).trees_done()
    assert 0 < len(before) < 20
    with pytest.raises(DatasetError, match="no finished tree dataset"):
        TreeDataset(tmp_path / "killed")
    finish(grown(tmp_path / "killed"))
    assert by_name(tmp_path / "killed") == by_name(folder)
    TreeDataset(tmp_path / "killed").verify()


def test_another_plan_is_refused(folder):
    with pytest.raises(MismatchError, match=r"search.children \(3, now 4\)"):
        TreeWriter(folder, {**PLAN, "search": {**PLAN["search"], "children": 4}})


def test_a_tree_that_missed_a_step_is_missing(tmp_path):
    class Failing(Drawn):
        async def steps(self, request: Request) -> list[Step]:
            found = await super().steps(request)
            return [] if request.problem.problem_id == "p3" else found

    writer = grown(tmp_path / "trees", sampler=Failing(NOTES))
    assert missing(PROBLEMS, writer, SEARCH) == [("p3", number) for number in range(4)]


# ---- damage -------------------------------------------------------------------------------------


def rewrite(folder: Path, column: str, row: int, value) -> None:
    """Put another value in a part, and make the manifest agree with it."""
    part = folder / "part-00000.parquet"
    table = pq.read_table(part)
    values = table[column].to_pylist()
    values[row] = value
    place = table.schema.get_field_index(column)
    write_table(part, table.set_column(place, column, pa.array(values, table.schema.field(place).type)))
    change_manifest(folder, lambda m: m["shards"][0].update(sha256=sha256_of(part), bytes=part.stat().st_size))


def change_manifest(folder: Path, change) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[SEAL]
    change(manifest)
    write_sealed_json(folder / "manifest.json", manifest)


@pytest.mark.parametrize(
    ("column", "row", "value", "said"),
    [
        ("problem_id", 2, "p9", "row 2: column 'problem_id' is 'p9', the root's is 'p"),
        ("text", 1, None, "row 1: column 'text' is null"),
        ("node", 3, 7, "row 3: column 'node' is 7 where 3 is wanted"),
        ("parent", 3, 3, "row 3: column 'parent' is 3, where a node before 3 is wanted"),
        ("parent", 0, 0, "row 0: column 'parent' is 0, depth 0, end 'open' of a root"),
        ("depth", 1, 2, "row 1: column 'depth' is 2, that of the node above 0"),
        ("token_ids", 1, [], "row 1: column 'token_ids' has no tokens"),
        ("token_ids", 1, [-4], "row 1: column 'token_ids' has no tokens, or holds what is no token id"),
        ("log_probs", 1, [-0.1, -0.2], "row 1: column 'log_probs' has 2 values where 1 are wanted"),
        ("log_probs", 1, [0.5], "row 1: column 'log_probs' holds no finite log-prob of 0 or below"),
        ("prior", 1, 0.123, "row 1: column 'prior' is 0.123, which the log-probs do not say"),
        ("visits", 0, 99, "row 0: column 'visits' is 99, by the nodes below"),
        ("visits", 1, -1, "row 1: column 'visits' is -1, below 0"),
        ("total", 0, -999.0, "row 0: column 'total' is -999 of"),
        ("end", 1, "gone", "row 1: column 'end' is 'gone', not one of"),
        ("status", 1, "right", "row 1: column 'status' is 'right' where the end is 'open'"),
        ("sampled_tokens", 0, 1, "row 0: column 'sampled_tokens' is 1, its children have 3"),
    ],
)
def test_a_damaged_row_is_named(folder, column, row, value, said):
    rewrite(folder, column, row, value)
    with pytest.raises(DatasetError) as error:
        list(TreeDataset(folder))
    assert str(folder / "part-00000.parquet") in str(error.value)
    assert said in str(error.value)


@given(st.data(), toys())
def test_rows_with_anything_in_them_are_named_or_make_a_tree(data, toy):
    """No other error than a fault, whatever a cell holds and whichever rows are there."""
    tree = searched(toy, SearchSettings(children=2, simulations=6), sampler=Drawn(toy))
    rows = to_table([tree]).to_pylist()
    odd = st.sampled_from([None, -1, 0, 1, 2, 10**6, float("nan"), float("inf"), -0.5])
    row = data.draw(st.sampled_from(rows))
    column = data.draw(st.sampled_from(list(row)))
    if isinstance(row[column], list):
        row[column] = data.draw(st.one_of(st.none(), st.lists(odd, max_size=3)))
    elif isinstance(row[column], str) or column == "status":
        row[column] = data.draw(st.sampled_from([None, "", "right", "open", "stop", "x"]))
    else:
        row[column] = data.draw(odd)
    if data.draw(st.booleans()):
        del rows[data.draw(st.integers(0, len(rows) - 1))]
    if rows and not list(faults(rows)):
        assert len(tree_of(rows).nodes) == len(rows)


def test_a_missing_column_and_a_flipped_byte_are_named(folder):
    part = folder / "part-00001.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(DatasetError, match=r"part-00001.parquet is damaged \(its checksum"):
        list(TreeDataset(folder))
    part.write_bytes(bytes(data[:-5]))
    with pytest.raises(DatasetError, match=r"part-00001.parquet is damaged \(its size"):
        TreeDataset(folder)
    part.unlink()
    with pytest.raises(DatasetError, match=r"part-00001.parquet is missing"):
        TreeDataset(folder)


def test_a_part_without_a_column_is_named(folder):
    part = folder / "part-00000.parquet"
    write_table(part, pq.read_table(part).drop_columns(["prior"]))
    change_manifest(folder, lambda m: m["shards"][0].update(sha256=sha256_of(part), bytes=part.stat().st_size))
    with pytest.raises(DatasetError, match=r"part-00000.parquet: column 'prior' is missing"):
        list(TreeDataset(folder))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["counts"].update(trees=3), "trees is 3, by the parts 20"),
        (lambda m: m.update(kind="rollouts"), "is of kind 'rollouts'"),
        (lambda m: m.pop("search"), "is damaged"),
        (lambda m: m.update(search=3), "is damaged"),
        (lambda m: m["shards"][0].update(file="../x.parquet"), "lies outside the dataset"),
        (lambda m: m["shards"].append(m["shards"][0]), r"has tree \d of problem p\d 2 times"),
    ],
)
def test_a_manifest_that_does_not_hold_is_named(folder, change, said):
    change_manifest(folder, change)
    with pytest.raises(DatasetError, match=said):
        TreeDataset(folder).verify()


def test_a_manifest_without_its_checksum_is_damaged(folder):
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"m"', '"n"'))
    with pytest.raises(DatasetError, match="its content is not what its checksum was made of"):
        TreeDataset(folder)


def test_a_damaged_part_is_found_when_a_dataset_is_finished(tmp_path):
    writer = grown(tmp_path / "trees")
    tree = searched(NOTES, SEARCH)
    tree.nodes[0].visits += 1
    writer.add([replace(tree, number=7)])
    with pytest.raises(DatasetError, match=r"part-00001.parquet, row 0: column 'visits'"):
        finish(writer)
