"""Problem files in verl's own parquet schema, and the held-out split.

data_source, prompt [{"role", "content"}], ability, reward_model {"style", "ground_truth"},
extra_info {"problem_id", "index", "split"}
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fpa_verl.errors import DatasetError
from fpa_verl.files import atomic_path
from fpa_verl.rollouts.schema import VALIDATION, VALIDATION_SUFFIX

# What the paper's prompt asks of the model after the problem statement.
BOXED_INSTRUCTION = "\nPlease reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True)
class Problem:
    problem_id: str
    messages: tuple[tuple[str, str], ...]
    """(role, content) pairs of the chat that poses the problem."""
    ground_truth: str
    data_source: str

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


def as_problem(row: dict[str, Any], where: str) -> Problem:
    """One row of verl's schema; `where` names file and row in errors."""
    try:
        info = row.get("extra_info") or {}
        chat = tuple((message["role"], message["content"]) for message in row["prompt"])
        truth = row["reward_model"]["ground_truth"]
        source = row["data_source"]
    except (KeyError, TypeError) as error:
        raise DatasetError(
            f"{where} is not in verl's problem schema ({error!r}): it needs data_source, prompt and "
            "reward_model.ground_truth; `fpa-verl data problems` makes such a file from JSON Lines"
        ) from error
    problem_id = info.get("problem_id") or f"{source}/{info.get('index', where)}"
    return Problem(str(problem_id), chat, str(truth), str(source))


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
        try:
            rows = pq.read_table(path).to_pylist()
        except pa.ArrowInvalid as error:
            raise DatasetError(f"{path} is not a parquet file ({error})") from error
        problems += [as_problem(row, f"{path}, row {i}") for i, row in enumerate(rows)]
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


def write_problems(path: Path, problems: Iterable[Problem], split: str) -> None:
    """Write problems in verl's schema, atomically.

    Held-out problems get a data source of their own, so that verl's metrics and the report tell
    them from the test problems.
    """
    source_suffix = VALIDATION_SUFFIX if split == VALIDATION else ""
    rows = [
        {
            "data_source": problem.data_source + source_suffix,
            "prompt": problem.chat,
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": problem.ground_truth},
            "extra_info": {"problem_id": problem.problem_id, "index": index, "split": split},
        }
        for index, problem in enumerate(problems)
    ]
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)


def hold_out(problem_ids: Iterable[str], fraction: float, seed: int) -> frozenset[str]:
    """The validation problems: `fraction` of them, at least one, chosen by `seed` whatever their order."""
    ordered = sorted(set(problem_ids))
    if fraction <= 0 or len(ordered) < 2:
        return frozenset()
    return frozenset(random.Random(seed).sample(ordered, max(1, round(fraction * len(ordered)))))


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, record) of a plain or gzip-compressed JSON Lines file."""
    if not path.exists():
        raise DatasetError(f"no file at {path}")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DatasetError(f"{path}, line {number}: not JSON ({error.msg})") from error
            if not isinstance(record, dict):
                raise DatasetError(f"{path}, line {number}: a JSON object is wanted, not {type(record).__name__}")
            yield number, record


def problem_from_record(record: dict[str, Any], where: str, index: int, source: str, suffix: str) -> Problem:
    """A problem from the local schema: `problem`, `answer` and, if present, `id` and `source`.

    Args:
        record: one row.
        where: names file and row in errors.
        index: makes the id where there is none.
        source: of rows that name none.
        suffix: follows the problem's text.

    Returns:
        The problem; without an answer its ground truth is blank, and it cannot be scored.
    """
    if record.get("problem") is None or "answer" not in record:
        raise DatasetError(f"{where}: keys 'problem' and 'answer' are wanted")
    answer = "" if record["answer"] is None else str(record["answer"])
    source = str(record.get("source", source))
    problem_id = str(record.get("id", f"{source}/{index}"))
    return Problem.from_text(problem_id, str(record["problem"]) + suffix, answer, source)


def all_of_json_lines(path: Path, suffix: str) -> list[Problem]:
    """All problems of a JSON Lines file, those without an answer among them."""
    source = path.name.split(".")[0]
    return [
        problem_from_record(record, f"{path}, line {number}", number, source, suffix)
        for number, record in json_lines(path)
    ]
