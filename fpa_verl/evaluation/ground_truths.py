"""Which ground truths of a problem file cannot be used, because they do not grade themselves right."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fpa_verl.reward.math_answer import check_ground_truth
from fpa_verl.reward.sandbox import POOL_SIZE
from fpa_verl.rollouts.problems import all_of_json_lines, read_problems
from fpa_verl.rollouts.prompts import BARE


@dataclass(frozen=True)
class Unusable:
    """A ground truth that no answer can be scored against.

    Attributes:
        status: what every answer to the problem would get: bad_ground_truth, timeout or error.
    """

    problem_id: str
    ground_truth: str
    status: str


def unusable(path: Path) -> tuple[list[Unusable], int]:
    """The ground truths that do not grade themselves right, in the file's order, and how many there are in all.

    Args:
        path: a problem file: verl's parquet, or JSON Lines (.gz too) in the local schema.

    Raises:
        DatasetError: the file is missing or of another schema.
    """
    problems = read_problems(str(path)) if path.suffix == ".parquet" else all_of_json_lines(path, BARE)
    with ThreadPoolExecutor(POOL_SIZE) as pool:
        statuses = pool.map(lambda problem: check_ground_truth(problem.ground_truth), problems)
        found = [
            Unusable(problem.problem_id, problem.ground_truth, status)
            for problem, status in zip(problems, statuses, strict=True)
            if status != "right"
        ]
    return found, len(problems)
