"""What a tokenizer shows of a dataset: responses that go on behind their end, prompts without their problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fpa_verl.data_check.faults import Faults
from fpa_verl.errors import FpaError
from fpa_verl.findings import Finding
from fpa_verl.rollouts.decoding import model_of, tokenizer_of
from fpa_verl.rollouts.ends import known_ends
from fpa_verl.rollouts.manifest import Manifest
from fpa_verl.rollouts.problems import read_problems
from fpa_verl.rollouts.schema import ENDED, TRAIN, VALIDATION
from fpa_verl.rollouts.shards import Piece

# Of the longest prompts, where one that was cut would be, so many are read.
PROMPTS = 500
# Tokens of a response's end that are read, and the share of responses that is worth a note.
TAIL, NOTED = 8, 0.2
ENDS_REMEDY = "import again, which cuts a response off behind its end"
PROMPT_REMEDY = "raise scale.max_prompt_tokens and collect again"


class Texts:
    """Collects, piece by piece, what there is to find.

    Args:
        manifest: the dataset's; its origin names the tokenizer.
        index: the dataset's.
        model: folder or name of another copy of the model.
        where: file and row of a row of the dataset.
    """

    def __init__(self, manifest: Manifest, index: pd.DataFrame, model: str | None, where: Callable[[int], str]) -> None:
        self._manifest, self._index, self._where = manifest, index, where
        self._faults = Faults()
        self._longest = set(index["prompt_tokens"].nlargest(PROMPTS).index.tolist())
        self._prompts: dict[int, list[int]] = {}
        self._missing = ""
        self._ended = self._broken_off = 0
        try:
            self._tokenizer = tokenizer_of(manifest, model)
            self._ends = np.array(sorted(known_ends(model_of(manifest, model), self._tokenizer)))
            pad = self._tokenizer.pad_token_id
            self._pad = None if pad in self._ends else pad
        except FpaError as error:
            self._missing = str(error)

    def look_at(self, piece: Piece, faulty: set[int]) -> None:
        """Rows of a shard, but those of which something is wrong already."""
        if self._missing:
            return
        for row in set(self._second_ends(piece)) - faulty:
            where = self._where(piece.in_dataset + row)
            self._faults.add("ends", f"{where}: column 'response_ids' goes on behind an end of the response")
        if self._is_imported:
            self._look_at_imported(piece, faulty)
        here = set(range(piece.in_dataset, piece.in_dataset + len(piece.table)))
        for row in self._longest & here - {piece.in_dataset + one for one in faulty}:
            self._prompts[row] = piece.table["prompt_ids"][row - piece.in_dataset].as_py()

    @property
    def _is_imported(self) -> bool:
        return self._manifest.is_imported

    def _look_at_imported(self, piece: Piece, faulty: set[int]) -> None:
        """What a model may have sampled itself, and a text may not show."""
        ended = piece.table["finish_reason"].to_pylist()
        for row, ids in enumerate(piece.table["response_ids"].to_pylist()):
            if row in faulty:
                continue
            if self._pad is not None and self._pad in ids:
                where = self._where(piece.in_dataset + row)
                self._faults.add("ends", f"{where}: column 'response_ids' holds padding")
            if ended[row] == ENDED:
                self._ended += 1
                self._broken_off += self._breaks_off(ids)

    def _breaks_off(self, ids: list[int]) -> bool:
        """Whether the text before the end has a letter last: a sentence or a formula would have more."""
        text = str(self._tokenizer.decode(ids[-TAIL:], skip_special_tokens=True)).rstrip()
        return bool(text) and text[-1].isalpha()

    def _second_ends(self, piece: Piece) -> Iterator[int]:
        column = piece.table["response_ids"].combine_chunks()
        if not len(column) or not len(column.values):
            return
        starts = column.offsets.to_numpy()
        is_end = np.isin(column.values.to_numpy(zero_copy_only=False), self._ends)
        is_end[starts[1:] - 1] = False
        counts = np.concatenate(([0], np.cumsum(is_end)))
        yield from np.flatnonzero(counts[starts[1:]] > counts[starts[:-1]]).tolist()

    def findings(self, folder: Path) -> Iterator[Finding]:
        """Everything found.

        Args:
            folder: the dataset's, with the files of its problems.
        """
        if self._missing:
            yield Finding("ends", "note", f"no text was read: {self._missing}")
            return
        yield from self._faults.findings(
            "ends", ENDS_REMEDY, "each response ends once, at its last token, or not at all"
        )
        yield from self._unanswered()
        yield from self._broken()
        yield from self._without_problem(folder)

    def _unanswered(self) -> Iterator[Finding]:
        """Imported responses that are said to have ended and hold no answer: an older import knew one word for it."""
        if not self._is_imported:
            return
        silent = int(((self._index["finish_reason"] == ENDED) & (self._index["status"] == "no_answer")).sum())
        if silent:
            yield Finding(
                "ends",
                "note",
                f"{silent:,} of {len(self._index):,} responses are said to have ended and hold no answer: if they were "
                "cut off, import them again with what the engine said of it (finish_reason)",
            )

    def _broken(self) -> Iterator[Finding]:
        """Imported responses that are said to have ended, in the middle of something."""
        if self._broken_off >= max(1, NOTED * self._ended):
            yield Finding(
                "ends",
                "note",
                f"{self._broken_off:,} of {self._ended:,} imported responses that are said to have ended have a letter "
                "last: if they were cut off, import them again with what the engine said of it (finish_reason)",
            )

    def _without_problem(self, folder: Path) -> Iterator[Finding]:
        """Prompts that were cut on the left, as verl cuts those that are too long."""
        faults = Faults()
        problems = _texts(folder)
        for row in sorted(self._prompts):
            problem_id = str(self._index["problem_id"].iloc[row])
            prompt = str(self._tokenizer.decode(self._prompts[row], skip_special_tokens=True))
            if problem_id in problems and _words(problems[problem_id]) not in _words(prompt):
                faults.add("prompts", f"{self._where(row)}: the prompt does not hold problem '{problem_id}' as a whole")
        yield from faults.findings("prompts", PROMPT_REMEDY, f"the {len(self._prompts):,} longest hold their problems")


def _texts(folder: Path) -> Mapping[str, str]:
    """Problem to what is asked last of it."""
    files = [folder / f"{split}.parquet" for split in (TRAIN, VALIDATION)]
    try:
        return {p.problem_id: p.messages[-1][1] for f in files if f.exists() for p in read_problems(str(f))}
    except FpaError:
        # Which is said where the files themselves are looked at.
        return {}


def _words(text: str) -> str:
    """Without the white space that templates trim."""
    return " ".join(text.split())
