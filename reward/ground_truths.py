"""Which ground truths of a problem file cannot be used, because they do not grade themselves right."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fpa_verl.errors import DatasetError
from fpa_verl.reward.math_answer import check_ground_truth
from fpa_verl.reward.sandbox import POOL_SIZE
from fpa_verl.rollouts.problems import json_lines, read_problems


@dataclass(frozen=True)
class Unusable:
    problem_id: str
    ground_truth: str
    status: str
    """What every answer to the problem would get: bad_ground_truth, timeout or error."""


def ground_truths(path: Path) -> Iterator[tuple[str, str]]:
    """(problem id, ground truth) of a problem file: verl's parquet, or JSON Lines with `answer`.

    Raises:
        DatasetError: the file is missing or of another schema.
    """
    if path.suffix not in (".jsonl", ".gz", ".json"):
        yield from ((problem.problem_id, problem.ground_truth) for problem in read_problems(str(path)))
        return
    for number, record in json_lines(path):
        if "answer" not in record:
            raise DatasetError(f"{path}, line {number}: key 'answer' is wanted")
        yield str(record.get("id", f"{path.name}/{number}")), str(record["answer"])


def unusable(path: Path) -> tuple[list[Unusable], int]:
    """The ground truths that do not grade themselves right, in the file's order, and how many there are in all."""
    rows = list(ground_truths(path))
    with ThreadPoolExecutor(POOL_SIZE) as pool:
        statuses = pool.map(lambda row: check_ground_truth(row[1]), rows)
        found = [Unusable(*row, status) for row, status in zip(rows, statuses, strict=True) if status != "right"]
    return found, len(rows)
