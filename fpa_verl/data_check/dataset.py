"""The check of a rollout dataset: one pass over the rows, then what takes all of them together.

Tokens are in memory a thousand rows at a time. What stays is the index, 34 bytes a trajectory, the distinct ground
truths, and the sample that is scored anew.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from fpa_verl.data_check.faults import Faults
from fpa_verl.data_check.groups import group_faults, repeated_responses
from fpa_verl.data_check.problem_files import Against, check_ground_truths
from fpa_verl.data_check.scores import FAILED_SAMPLE, Scored, check_scores, scorer_of
from fpa_verl.data_check.splits import check_splits
from fpa_verl.data_check.texts import Texts
from fpa_verl.errors import DatasetError
from fpa_verl.findings import Finding
from fpa_verl.reward.function import RewardFunction
from fpa_verl.reward.verdicts import SCORER_STATUSES
from fpa_verl.rollouts.dataset import miscounted
from fpa_verl.rollouts.index import count, read_index
from fpa_verl.rollouts.manifest import FORMAT_VERSION, Manifest, read_manifest, require_whole
from fpa_verl.rollouts.shards import Piece, Shards

SAMPLE = 200
# What is said of rows, by subject, where nothing is wrong with them; and what to do where something is.
ROW_SUBJECTS = {
    "values": "no null, and every word and number is one that is written",
    "lengths": "prompts and responses have tokens, and a log-prob for each response token or for none",
    "tokens": "all ids are tokens of the vocabulary",
    "log-probs": "finite, and 0 or below",
    "verdicts": "the score is 1 where the status is right, else 0",
    "index": "says of every row what its shard says",
}
REMEDY = "restore the file, or delete the folder and collect or import again"


def check_dataset(
    folder: Path,
    *,
    model: str | None = None,
    sample: int = SAMPLE,
    against: Against | None = None,
    scorer: RewardFunction | None = None,
) -> Iterator[Finding]:
    """Look at everything in a dataset; what is wrong with one thing hides no other that can still be looked at.

    Args:
        folder: the dataset's.
        model: folder or name of the model whose tokenizer reads the texts; None takes the one that the manifest names.
        sample: trajectories that are scored anew, the same ones every time; 0 for none.
        against: evaluation problems to look for among the dataset's training problems.
        scorer: scores anew; None takes the function that the manifest names.
    """
    try:
        manifest = read_manifest(folder)
    except DatasetError as error:
        yield Finding("manifest", "wrong", str(error))
        return
    yield _of_manifest(manifest)
    missing = list(_incomplete_files(folder, manifest))
    yield from missing
    if not manifest.shards or missing:
        yield Finding("files", "wrong", "no row was looked at: restore the files first, or collect or import again")
        return
    try:
        index = read_index(folder, manifest.index)
    except DatasetError as error:
        yield Finding("index", "wrong", f"{error}; no row was looked at")
        return
    rows = _Rows(folder, manifest, index, sample, model)
    yield from rows.findings()
    yield from rows.texts.findings(folder)
    yield from _counts(folder, manifest, index)
    yield from _groups(rows, manifest)
    yield from _verdicts(rows, manifest, model, scorer)
    yield from check_splits(folder, manifest, index, against or Against())


def _verdicts(rows: _Rows, manifest: Manifest, model: str | None, scorer: RewardFunction | None) -> Iterator[Finding]:
    """Ground truths as far as the scorer says which it can use, and the sample scored anew."""
    if manifest.holds_steps:
        yield Finding("scores", "fine", "responses are single steps, which the search tells apart and no scorer")
        return
    try:
        scorer = scorer or scorer_of(manifest)
    except DatasetError as error:
        yield Finding("scores", "note", f"nothing was scored anew: {error}")
        return
    if scorer.is_ours:
        yield from check_ground_truths(rows.truths_at)
    # A search breaks solutions off without asking the scorer.
    sample = [one for one in rows.sample if not (manifest.is_from_trees and one.status == "no_answer")]
    if rows.sample_size:
        yield from check_scores(sample, rows.folder, manifest, model, scorer)


def _of_manifest(manifest: Manifest) -> Finding:
    if manifest.format_version != FORMAT_VERSION:
        return Finding("manifest", "note", "has no checksum of its own: an earlier version wrote it")
    return Finding("manifest", "fine", "its content is what its checksum was made of")


def _incomplete_files(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    faults = Faults()
    for record in (manifest.index, *manifest.shards):
        try:
            require_whole(folder, record)
        except DatasetError as error:
            faults.add("files", str(error))
    yield from faults.findings("files", "", "")


def _counts(folder: Path, manifest: Manifest, index: pd.DataFrame) -> Iterator[Finding]:
    faults = Faults()
    for difference in miscounted(manifest, index):
        faults.add("counts", f"manifest.json: {difference}")
    yield from faults.findings("counts", REMEDY, f"{len(index):,} trajectories, as the manifest counts them")
    counted = count(index)
    if not counted["groups_mixed"]:
        outcome = ", ".join(
            f"{counted[f'groups_{kind}']:,} {kind.replace('_', ' ')}" for kind in ("all_right", "all_wrong", "unscored")
        )
        detail = f"nothing trains: no group holds both right and wrong trajectories ({outcome})"
        yield Finding("counts", "wrong", detail)
    if missing := manifest.origin.get("problems_missing"):
        yield Finding("counts", "note", f"{missing} problems got no complete group: they failed to generate twice")


def _groups(rows: _Rows, manifest: Manifest) -> Iterator[Finding]:
    """Groups all of whose rows could be read."""
    table = rows.together()
    expected = manifest.sampling.get("rollouts_per_problem")
    faults = Faults()
    for fault in group_faults(table, expected if isinstance(expected, int) else None):
        faults.add(fault.subject, f"{rows.where(int(table.index[fault.row]))}: {fault}")
    of = f"of {expected} trajectories" if isinstance(expected, int) else "of any size"
    fine = f"{of}, each of one problem, one prompt and one ground truth"
    yield from faults.findings("groups", "collect or import again", fine)
    yield from faults.findings("splits", "collect or import again", "every problem is in one")
    repeated, groups = repeated_responses(table)
    if repeated:
        detail = f"{repeated:,} of {len(table):,} trajectories repeat another one of their group, in {groups:,} groups"
        yield Finding("repetitions", "note", detail)
    else:
        yield Finding("repetitions", "fine", "no group has the same response twice")


@dataclass
class _Columns:
    """What stands for a row once its tokens are gone; rows that could not be read are absent."""

    is_read: np.ndarray
    prompt: np.ndarray
    response: np.ndarray
    ground_truth: np.ndarray
    sample: np.ndarray

    @classmethod
    def of_size(cls, rows: int) -> _Columns:
        return cls(np.zeros(rows, bool), *(np.zeros(rows, np.int64) for _ in range(4)))


@dataclass
class _Rows:
    """One pass over the rows of a dataset, and what it leaves."""

    folder: Path
    manifest: Manifest
    index: pd.DataFrame
    sample_size: int
    model: str | None = None
    faults: Faults = field(default_factory=Faults)
    truths_at: dict[str, str] = field(default_factory=dict)
    sample: list[Scored] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = len(self.index)
        self._columns = _Columns.of_size(rows)
        self._truth_numbers: dict[str, int] = {}
        self._chosen = np.zeros(rows, bool)
        self._chosen[random.Random(0).sample(range(rows), min(self.sample_size, rows))] = True
        if self.sample_size:
            # The scorer fails on few, and says why on those alone.
            self._chosen[np.flatnonzero(self.index["status"].isin(SCORER_STATUSES))[:FAILED_SAMPLE]] = True
        self.texts = Texts(self.manifest, self.index, self.model, self.where)
        self._ends = np.cumsum([shard.rows for shard in self.manifest.shards])
        shards = Shards(self.folder, self.manifest, self.index)
        for number, record in enumerate(self.manifest.shards):
            try:
                for piece in shards.pieces(number):
                    self._look_at(piece, shards)
            except DatasetError as error:
                self.faults.add("files", f"{error}" if record.file in str(error) else f"{record.file}: {error}")

    def where(self, row: int) -> str:
        """File and row of a row of the dataset."""
        shard = int(np.searchsorted(self._ends, row, side="right"))
        return f"{self.manifest.shards[shard].file}, row {row - (int(self._ends[shard - 1]) if shard else 0)}"

    def _look_at(self, piece: Piece, shards: Shards) -> None:
        here = slice(piece.in_dataset, piece.in_dataset + len(piece.table))
        is_sampled = self._chosen[here].copy()
        faulty = set()
        for fault in shards.faults(piece):
            self.faults.add(fault.subject, f"{self.where(piece.in_dataset + fault.row)}: {fault}")
            is_sampled[fault.row] = False
            faulty.add(fault.row)
        if any(piece.table[name].null_count for name in ("prompt_ids", "response_ids", "ground_truth", "sample")):
            return
        self.texts.look_at(piece, faulty)
        self._columns.is_read[here] = True
        self._columns.prompt[here] = digests(piece.table["prompt_ids"])
        self._columns.response[here] = digests(piece.table["response_ids"])
        self._columns.sample[here] = piece.table["sample"].to_numpy()
        self._columns.ground_truth[here] = [
            self._truth_number(truth, piece.in_dataset + i)
            for i, truth in enumerate(piece.table["ground_truth"].to_pylist())
        ]
        self._take(piece, np.flatnonzero(is_sampled))

    def _truth_number(self, truth: str, row: int) -> int:
        if truth not in self._truth_numbers:
            self._truth_numbers[truth] = len(self._truth_numbers)
            self.truths_at[truth] = self.where(row)
        return self._truth_numbers[truth]

    def _take(self, piece: Piece, rows: np.ndarray) -> None:
        taken = piece.table.select(["problem_id", "response_ids", "data_source", "ground_truth", "status"]).take(
            pa.array(rows)
        )
        for row, values in zip(rows.tolist(), taken.to_pylist(), strict=True):
            self.sample.append(Scored(self.where(piece.in_dataset + row), **values))

    def together(self) -> pd.DataFrame:
        """Rows of groups that were read whole; the frame's index is their place in the dataset."""
        columns = self._columns
        table = self.index[["problem_id", "group", "split"]].assign(
            sample=columns.sample, prompt=columns.prompt, response=columns.response, ground_truth=columns.ground_truth
        )
        unread = set(self.index["problem_id"].cat.codes[~columns.is_read])
        return table[~table["problem_id"].cat.codes.isin(unread)]

    def findings(self) -> Iterator[Finding]:
        files = [self.manifest.index, *self.manifest.shards]
        size = sum(record.bytes for record in files) / 1e6
        fine = f"{len(files):,} of {size:,.1f} MB, with the bytes that were written"
        yield from self.faults.findings("files", "its rows were not looked at", fine)
        for subject, fine in ROW_SUBJECTS.items():
            if subject == "tokens" and self.manifest.vocabulary_size is None:
                fine = "no id is below 0; the manifest does not tell the size of the vocabulary"
            yield from self.faults.findings(subject, REMEDY, fine)


def digests(lists: pa.ChunkedArray) -> np.ndarray:
    """(rows,) 64-bit numbers that are equal where the lists are, and else differ but for 1 pair in 2^64."""
    found = []
    for chunk in lists.chunks:
        values, offsets = chunk.values.to_numpy(zero_copy_only=False), chunk.offsets.to_numpy()
        for start, end in pairwise(offsets):
            found.append(hashlib.blake2b(values[start:end].tobytes(), digest_size=8).digest())
    return np.frombuffer(b"".join(found), np.int64)
