"""Problem files in verl's own parquet schema, and the held-out split.

data_source, prompt [{"role", "content"}], ability, reward_model {"style", "ground_truth"},
extra_info {"problem_id", "index", "split"}
"""

from __future__ import annotations

import codecs
import gzip
import json
import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.rollouts.numbers import Written, constant, finite, number_text
from fpa_verl.rollouts.parquet import read_table, write_table
from fpa_verl.rollouts.prompts import Prompt
from fpa_verl.rollouts.schema import EMPTY, EMPTY_SUFFIX, VALIDATION, VALIDATION_SUFFIX, plain_source

# What data frames and people write where there is no answer, in small letters.
NO_ANSWER = frozenset({"", "nan", "nat", "none", "null", "n/a", "#n/a", "n.a."})
# As Python and JSON print a number that overflowed, and R what is missing; a person writes infinity, and Na for sodium.
PRINTED = re.compile(r"[-+]?(inf|Infinity)|NA")
# Key of a problem file's metadata: the digest of its rows.
SEAL = b"fpa_verl.rows"


@dataclass(frozen=True)
class Problem:
    problem_id: str
    messages: tuple[tuple[str, str], ...]
    """(role, content) pairs of the chat that poses the problem."""
    ground_truth: str
    data_source: str
    extra_info: dict[str, Any] = field(default_factory=dict, compare=False)
    """What else the file says of it, for a scorer that wants to know."""

    @classmethod
    def from_text(cls, problem_id: str, text: str, ground_truth: str, data_source: str) -> Problem:
        return cls(problem_id, (("user", text),), ground_truth, data_source)

    @property
    def chat(self) -> list[dict[str, str]]:
        return [{"role": role, "content": content} for role, content in self.messages]

    @property
    def is_answered(self) -> bool:
        """Whether there is a ground truth to score against."""
        return bool(self.ground_truth.strip())


def scored_as(problem: Problem) -> str:
    """The problem set whose scorer a problem has: for one that was held out, that of the others."""
    return plain_source(problem.data_source)


def in_modes(problems: Iterable[Problem], modes: Iterable[str]) -> list[Problem]:
    """Problems put in each of the modes; those of the empty one are a problem set of their own."""
    suffixes = [EMPTY_SUFFIX if mode == EMPTY else "" for mode in modes]
    return [replace(one, data_source=one.data_source + suffix) for one in problems for suffix in suffixes]


def problems_fingerprint(problems: Iterable[Problem]) -> str:
    """Digest of ids, prompts and ground truths, whatever their order."""
    return digest(sorted([p.problem_id, p.chat, p.ground_truth] for p in problems))


def as_problem(row: dict[str, Any], where: str) -> Problem:
    """One row of verl's schema; `where` names file and row in errors."""
    try:
        info = row.get("extra_info") or {}
        problem_id = info.get("problem_id") or f"{row['data_source']}/{info.get('index', where)}"
        chat = tuple((message["role"], message["content"]) for message in row["prompt"])
        truth = row["reward_model"]["ground_truth"]
        source = row["data_source"]
        if not all(isinstance(text, str) for text in (source, *chain.from_iterable(chat))):
            raise TypeError("data_source, role or content is no text")
        if not chat:
            raise TypeError("the prompt has no message")
        if source.endswith(EMPTY_SUFFIX):
            raise TypeError(f"data_source ends with {EMPTY_SUFFIX}, which names problems put with an empty trace")
        if not isinstance(truth, (str, int, float, type(None))):
            raise TypeError(f"the ground truth is a {type(truth).__name__}")
    except (AttributeError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{where} is not in verl's problem schema ({error!r}): it needs data_source, prompt and "
            "reward_model.ground_truth; `fpa-verl data problems` makes such a file from JSON Lines"
        ) from error
    return Problem(str(problem_id), chat, truth_text(truth), source, dict(info))


def truth_text(value: str | float | None) -> str:
    """A ground truth as text; blank where it says that there is none, as NaN, "None" or "N/A" do.

    A number is written out, without exponent, and without decimals where it is whole: 1e+16 would be read as e + 16.
    """
    if isinstance(value, float):
        return number_text(value) if math.isfinite(value) else ""
    text = "" if value is None else str(value)
    told = text.strip().strip("<>")
    return "" if told.lower() in NO_ANSWER or PRINTED.fullmatch(told) else text


def read_problems(files: str | Sequence[str]) -> list[Problem]:
    """All problems of verl parquet files, in order.

    Raises:
        DatasetError: a file is missing, unreadable or empty, or a row is not in verl's schema.
    """
    problems = []
    for name in [files] if isinstance(files, str) else files:
        path = Path(name).expanduser()
        if not path.exists():
            raise DatasetError(
                f"no problem file at {path}: `fpa-verl data problems SOURCE --out {path}` makes one from JSON Lines"
            )
        problems += [as_problem(row, f"{path}, row {i}") for i, row in enumerate(_rows_of(path))]
    if not problems:
        raise DatasetError(f"no problems in {files}: the file is empty")
    seen = Counter((p.data_source, p.problem_id) for p in problems)
    (source, problem_id), times = seen.most_common(1)[0]
    if times > 1:
        raise DatasetError(
            f"{files}: {times} problems of {source} share the id '{problem_id}': give each its own "
            "extra_info.problem_id"
        )
    return problems


def holds_problems(path: Path) -> bool:
    """Whether a problem file has a row: that of the held-out ones has none where none were held out."""
    return read_table(path).num_rows > 0


def _rows_of(path: Path) -> list[dict[str, Any]]:
    table = read_table(path)
    rows = table.to_pylist()
    seal = (table.schema.metadata or {}).get(SEAL)
    if seal is not None and not _is_digest(seal, rows):
        raise DatasetError(f"{path} is damaged (its rows are not what its checksum was made of): restore it")
    _shorten_single_precision(table.schema, rows)
    return rows


def _shorten_single_precision(schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    """Ground truths of a column of 32 bits with their own digits: Python makes 0.10000000149011612 of its 0.1."""
    model = schema.field("reward_model").type if "reward_model" in schema.names else pa.null()
    if not pa.types.is_struct(model) or model.get_field_index("ground_truth") < 0:
        return
    if pa.types.is_float32(model.field("ground_truth").type):
        for row in rows:
            truth = (row["reward_model"] or {}).get("ground_truth")
            if truth is not None:
                row["reward_model"]["ground_truth"] = Written(str(np.float32(truth)))


def _is_digest(seal: bytes, rows: list[dict[str, Any]]) -> bool:
    try:
        return seal.decode(errors="replace") == digest(rows)
    except TypeError:
        # A value that JSON has no word for was never written.
        return False


def write_problems(path: Path, problems: Iterable[Problem], split: str) -> None:
    """Write problems in verl's schema, atomically, with a digest of the rows.

    Held-out problems get a data source of their own, so that verl's metrics and the report tell
    them from the test problems.
    """
    source_suffix = VALIDATION_SUFFIX if split == VALIDATION else ""
    rows: list[dict[str, Any]] = [
        {
            "data_source": problem.data_source + source_suffix,
            "prompt": problem.chat,
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": problem.ground_truth},
            "extra_info": {**problem.extra_info, "problem_id": problem.problem_id, "index": index, "split": split},
        }
        for index, problem in enumerate(problems)
    ]
    table = pa.Table.from_pylist(rows)
    write_table(path, table.replace_schema_metadata({SEAL: digest(table.to_pylist())}))


def hold_out(problem_ids: Iterable[str], fraction: float, seed: int) -> frozenset[str]:
    """The validation problems: `fraction` of them, at least one, chosen by `seed` whatever their order."""
    ordered = sorted(set(problem_ids))
    if fraction <= 0 or len(ordered) < 2:
        return frozenset()
    return frozenset(random.Random(seed).sample(ordered, max(1, round(fraction * len(ordered)))))


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, record) of a plain or gzip-compressed JSON Lines file.

    Raises:
        DatasetError: no such file, a line that is no JSON object, or a damaged archive.
    """
    if not path.is_file():
        raise DatasetError(f"no file at {path}")
    if path.suffix == ".parquet":
        raise DatasetError(f"{path} is parquet, where JSON Lines are wanted: write one JSON object a record")
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as handle:
        number = 0
        while True:
            number += 1
            try:
                line = handle.readline()
            except (OSError, EOFError, zlib.error) as error:
                raise DatasetError(f"{path} is damaged at line {number} ({error}): restore it") from error
            if not line:
                return
            if line.strip():
                yield number, _record(line, f"{path}, line {number}")


def _record(line: bytes, where: str) -> dict[str, Any]:
    try:
        # Windows' tools begin a file with a mark.
        text = line.removeprefix(codecs.BOM_UTF8).decode("utf-8")
        record = json.loads(text, parse_constant=constant, parse_float=finite)
        # Half a surrogate pair, as in "\ud83d", is no text that could be encoded.
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    # ValueError: no UTF-8, no JSON, a number of thousands of digits. RecursionError: brackets without end.
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: not JSON ({error})") from error
    if not isinstance(record, dict):
        raise DatasetError(f"{where}: a JSON object is wanted, not {type(record).__name__}")
    return record


def text_of(record: dict[str, Any], key: str, where: str) -> str | None:
    """A record's text or number as text; None where there is none.

    Raises:
        DatasetError: it is a list, an object or a truth value.
    """
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise DatasetError(f"{where}: '{key}' is {shown(value)}, where a text is wanted")
    return number_text(value) if isinstance(value, float) else str(value)


def number_of(value: Any, name: str, where: str) -> float:
    """A record's number.

    Raises:
        DatasetError: it is none, or none that is finite.
    """
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise DatasetError(f"{where}: '{name}' is {shown(value)}, where a number is wanted: leave the record out")
    return number


def shown(value: Any) -> str:
    """The beginning of a value as JSON would have it, for messages; parquet has some that JSON has no word for."""
    return json.dumps(value, default=str)[:40]


def problem_from_record(record: dict[str, Any], where: str, index: int, source: str, prompt: Prompt) -> Problem:
    """A problem from the local schema: `problem`, `answer` and, if present, `id` and `source`.

    Args:
        record: one row.
        where: names file and row in errors.
        index: makes the id where there is none.
        source: name of the set, for rows that give none.
        prompt: how the problem is put.

    Returns:
        The problem; without an answer its ground truth is blank, and it cannot be scored.
    """
    problem = text_of(record, "problem", where)
    if problem is None or "answer" not in record:
        raise DatasetError(f"{where}: keys 'problem' and 'answer' are wanted")
    source = text_of(record, "source", where) or source
    problem_id = text_of(record, "id", where) or f"{source}/{index}"
    return Problem.from_text(problem_id, prompt.of(problem), truth_text(text_of(record, "answer", where)), source)


def all_of_json_lines(path: Path, prompt: Prompt) -> list[Problem]:
    """All problems of a JSON Lines file, those without an answer among them."""
    source = path.name.split(".")[0]
    return [
        problem_from_record(record, f"{path}, line {number}", number, source, prompt)
        for number, record in json_lines(path)
    ]
