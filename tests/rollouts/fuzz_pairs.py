"""Damaged files of preferences and scored responses: an error that names file and row, or a sound dataset of the rest.

Every case has a number, from which it can be made again:

    python -m tests.rollouts.fuzz_pairs ultrafeedback 17          # case 17 of that form, read
    python -m tests.rollouts.fuzz_pairs ultrafeedback 0 200 whole # cases 0 to 199, imported and verified
"""

from __future__ import annotations

import faulthandler
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fpa_verl.errors import FpaError
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.importing import import_rollouts
from fpa_verl.rollouts.prompts import BOXED, pinned
from fpa_verl.rollouts.ranked import UNSAID, Pairing
from fpa_verl.rollouts.record_files import record_files
from fpa_verl.rollouts.text_rollouts import TextRollout, read_text_rollouts
from tests.rollouts.damage import COLUMNS, Json, damaged_bytes, damaged_json
from tests.rollouts.fuzz import HANGS_AFTER_S

ROWS = 6
TEXTS = ["four", "five", "six"]


def _asked(number: int) -> list[Json]:
    return [{"role": "user", "content": f"What is {number} + 1?"}]


def _told(number: int, text: str) -> list[Json]:
    return [*_asked(number), {"role": "assistant", "content": text}]


@dataclass(frozen=True)
class Form:
    """Records as people have them, one a row, and how pairs are made of them."""

    record: Any
    pairing: Pairing = UNSAID
    rows: int = ROWS

    @property
    def records(self) -> list[Json]:
        return [self.record(number) for number in range(self.rows)]


FORMS = {
    "trl": Form(lambda n: {"prompt": f"What is {n} + 1?", "chosen": "four", "rejected": "five"}),
    "trl_messages": Form(
        lambda n: {"prompt": _asked(n), "chosen": _told(n, "four")[1:], "rejected": _told(n, "five")[1:]}
    ),
    "conversations": Form(lambda n: {"chosen": _told(n, "four"), "rejected": _told(n, "five")}),
    "binarized": Form(
        lambda n: {
            "prompt": f"What is {n} + 1?",
            "prompt_id": f"id of {n}",
            "chosen": _told(n, "four"),
            "rejected": _told(n, "five"),
            "messages": _told(n, "four"),
            "score_chosen": 8.5,
            "score_rejected": 3.0,
        }
    ),
    "cleaned": Form(
        lambda n: {
            "source": "evol_instruct",
            "prompt": f"What is {n} + 1?",
            "chosen": _told(n, "four"),
            "chosen-rating": 4.5,
            "chosen-model": "a",
            "rejected": _told(n, "five"),
            "rejected-rating": 2.0,
            "rejected-model": "b",
        },
        Pairing(margin=1.0),
    ),
    "ultrafeedback": Form(
        lambda n: {
            "source": "evol_instruct",
            "instruction": f"What is {n} + 1?",
            "completions": [
                {"response": text, "fine-grained_score": 4.0 - i, "overall_score": 2.0 + i, "annotations": {"a": "5"}}
                for i, text in enumerate(TEXTS)
            ],
        }
    ),
    "armorm": Form(
        lambda n: {
            "prompt_id": f"id of {n}",
            "prompt": f"What is {n} + 1?",
            "all_generated_responses": TEXTS,
            "all_rm_scores": [0.17, 0.15, 0.12],
            "chosen": _told(n, "four"),
            "rejected": _told(n, "six"),
        },
        Pairing("best-random"),
    ),
    "lists": Form(
        lambda n: {"prompt": _asked(n), "responses": TEXTS, "scores": [1.5, 1.0, -2.0], "finish_reason": "stop"},
        Pairing("all", margin=0.25),
    ),
    "lists_of_messages": Form(
        lambda n: {"completions": [_told(n, text) for text in TEXTS], "rewards": [1.5, 1.0, -2.0]}
    ),
    # Three responses to each of three prompts.
    "single": Form(
        lambda n: {"prompt": f"What is {n // 3} + 1?", "response": TEXTS[n % 3], "score": 1.5 - n % 3},
        Pairing("best-worst"),
        rows=9,
    ),
}

# A pair: of which row, of what prompt, and the two texts.
Pair = tuple[str, Any, str, str]


class PairFile:
    """A file of one form, as JSON Lines or as parquet, and how it is damaged and read."""

    def __init__(self, form: str, folder: Path, model: Path | None = None) -> None:
        self.form, self.folder, self.model = FORMS[form], folder, model
        self.name = form
        self.whole = {name: self._intact(folder / name) for name in ("pairs.jsonl", "pairs.parquet")}

    def _intact(self, file: Path) -> list[Pair]:
        records = self.form.records
        if file.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(records), file)
        else:
            file.write_text("".join(json.dumps(record) + "\n" for record in records))
        found = pairs_of(self.read(file))
        assert found
        return found

    def read(self, file: Path, *, skip_bad: bool = False) -> list[TextRollout]:
        """The rollouts of a file; where there is a model, they are imported and verified as well."""
        tokenizer = _tokenizer()
        put, ends = pinned(BOXED, tokenizer, "model"), {tokenizer.eos_token_id}
        if self.model is not None:
            self._imported(file)
        return read_text_rollouts(record_files([file]), tokenizer, put, ends, self.form.pairing, skip_bad=skip_bad)[0]

    def _imported(self, file: Path) -> None:
        out = self.folder / "dataset"
        try:
            import_rollouts(record_files([file]), str(self.model), out, pairing=self.form.pairing)
            RolloutDataset(out).verify()
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def case(self, number: int) -> str:
        """Do the harm and read; what came of it: "refused" or "taken".

        Raises:
            AssertionError: an undamaged row was read otherwise, a text is not in its row, or the error names no row.
            Exception: anything but an `FpaError` is a failure too.
        """
        random = Random(f"{self.name}/{number}")
        file = self.folder / random.choice(sorted(self.whole))
        rows = self._damage(file, random)
        try:
            found = self.read(file)
        except FpaError as error:
            self._require_place(str(error), file, rows)
            self._require_rest(file, rows)
            return "refused"
        self._require_said(found, file, rows)
        return "taken"

    def _damage(self, file: Path, random: Random) -> set[str] | None:
        """Change the file; the rows that were changed, None where it is the file as a whole that was."""
        records, row = self.form.records, random.randrange(self.form.rows)
        kind = random.random()
        if file.suffix == ".jsonl":
            lines = [json.dumps(record) for record in records]
            lines[row] = damaged_json(records[row], random)
            content = "".join(line + "\n" for line in lines).encode()
            file.write_bytes(content if kind < 0.8 else damaged_bytes(content, random))
            return {f"line {row + 1}"} if kind < 0.8 else None
        table = pa.Table.from_pylist(records)
        damaged = _row_damaged(records, row, table.schema, random) if kind < 0.7 else _table_damaged(table, random)
        pq.write_table(damaged, file)
        if kind >= 0.9:
            file.write_bytes(damaged_bytes(file.read_bytes(), random))
        return {f"row {row}"} if kind < 0.7 else None

    def _require_place(self, refusal: str, file: Path, rows: set[str] | None) -> None:
        assert str(file) in refusal, f"names no file: {refusal}"
        if rows is not None:
            assert any(f"{file}, {row}" in refusal for row in rows), f"names none of {rows}: {refusal}"

    def _require_rest(self, file: Path, rows: set[str] | None) -> None:
        """Without its bad rows the file is the rest of itself: nothing of another row comes out otherwise."""
        if rows is None:
            return
        try:
            list(record_files([file]).records())
        except FpaError:
            # Behind what is no JSON nothing is read.
            return
        found = pairs_of(self.read_only(file))
        assert {pair for pair in found if pair[0] not in rows} <= self._possible(file)

    def read_only(self, file: Path) -> list[TextRollout]:
        model, self.model = self.model, None
        try:
            return self.read(file, skip_bad=True)
        finally:
            self.model = model

    def _possible(self, file: Path) -> set[Pair]:
        """Pairs of undamaged rows; where rows are responses, any two of a prompt, the better one first."""
        if self.name != "single":
            return set(self.whole[file.name])
        rows = [(f"line {n + 1}" if file.suffix == ".jsonl" else f"row {n}", self.form.record(n)) for n in range(9)]
        return {
            (row, (("user", a["prompt"]),), a["response"], b["response"])
            for row, a in rows
            for _, b in rows
            if a["prompt"] == b["prompt"] and a["score"] > b["score"]
        }

    def _require_said(self, found: list[TextRollout], file: Path, rows: set[str] | None) -> None:
        pairs = pairs_of(found)
        assert pairs
        # Of rows that are single responses, the damaged one may be in pairs with others.
        if rows is not None and self.name != "single":
            assert {pair for pair in pairs if pair[0] not in rows} <= self._possible(file)
        for where, _, record in record_files([file]).records():
            texts = set(_texts(record))
            for one in found:
                if one.where == where:
                    assert one.response in texts, (one, record)


def _row_damaged(records: list[Json], row: int, schema: pa.Schema, random: Random) -> pa.Table:
    """The records with one changed, as far as its columns can hold it."""
    for _ in range(50):
        try:
            changed = json.loads(damaged_json(records[row], random))
            return pa.Table.from_pylist([*records[:row], changed, *records[row + 1 :]], schema=schema)
        except (pa.ArrowException, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            continue
    raise AssertionError("nothing that the columns could hold")


def _other_type(table: pa.Table, random: Random) -> pa.Table:
    """A column of dates, decimals or objects, or without any value: parquet has more than JSON."""
    place = random.randrange(table.num_columns)
    value = random.choice([datetime(2026, 1, 1), Decimal("0.5"), {"a": b"b"}, [{"a": None}], None])
    return table.set_column(place, table.column_names[place], pa.array([value] * len(table)))


def _table_damaged(table: pa.Table, random: Random) -> pa.Table:
    return random.choice((*COLUMNS, _other_type))(table, random)


def pairs_of(rollouts: list[TextRollout]) -> list[Pair]:
    """Chosen and rejected of each pair, and the row of the chosen one."""
    assert [one.status for one in rollouts] == ["right", "wrong"] * (len(rollouts) // 2)
    sides = list(zip(rollouts[::2], rollouts[1::2], strict=True))
    assert all((a.problem_id, a.pair, a.messages) == (b.problem_id, b.pair, b.messages) for a, b in sides)
    assert all(a.response != b.response for a, b in sides)
    return [(a.where.rpartition(", ")[2], a.messages, a.response, b.response) for a, b in sides]


def _texts(value: Json) -> Iterator[str]:
    """Every text of a record, and every number as one."""
    if isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    else:
        yield str(value)


@cache
def _tokenizer() -> Any:
    from fpa_verl.demo.model import character_tokenizer

    return character_tokenizer()


def _model(folder: Path) -> Path:
    from fpa_verl.demo.model import small_qwen3

    small_qwen3(_tokenizer(), hidden=64, layers=1).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def run(form: str, first: int, last: int, *, whole: bool = False) -> dict[str, int]:
    """Cases `first` to `last` - 1, and how many came to what; the first failure is raised with its number."""
    outcomes = {"refused": 0, "taken": 0}
    with tempfile.TemporaryDirectory() as name:
        tested = PairFile(form, Path(name), _model(Path(name) / "model") if whole else None)
        for number in range(first, last):
            faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
            try:
                outcomes[tested.case(number)] += 1
            except BaseException as error:
                error.add_note(f"python -m tests.rollouts.fuzz_pairs {form} {number}{' whole' * whole}")
                raise
            finally:
                faulthandler.cancel_dump_traceback_later()
    return outcomes


def main() -> None:
    form, first, *last = (word for word in sys.argv[1:] if word != "whole")
    faulthandler.enable()
    end = int(last[0]) if last else int(first) + 1
    print(json.dumps(run(form, int(first), end, whole="whole" in sys.argv)))


if __name__ == "__main__":
    main()
