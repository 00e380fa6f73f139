"""The problem sets that accuracy is measured on: the seven benchmarks of arXiv 2509.19893, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.rollouts.problems import number_text


def plain(answer: Any) -> str:
    """The answer as it stands, but a whole number without decimals (27.0 is 27)."""
    text = number_text(answer) if isinstance(answer, float) and math.isfinite(answer) else str(answer).strip()
    whole = text.removesuffix(".0")
    return whole if whole.removeprefix("-").isdigit() else text


def after_hashes(answer: Any) -> str:
    """What follows `####` in GSM8K's solutions; nothing where there is no `####`."""
    return str(answer).partition("####")[2].strip()


def joined(answers: Any) -> str:
    """OlympiadBench's list of values as one string."""
    return ", ".join(map(plain, [answers] if isinstance(answers, str) else answers))


@dataclass(frozen=True)
class Benchmark:
    """One problem set: how the paper samples it, and where it is published.

    Attributes:
        name: how it is asked for, and the `source` of its rows.
        title: the paper's benchmark that it belongs to.
        samples: answers to each problem, as in the paper.
        problems: how many the published set has.
        paper_problems: how many the paper counts, where that is another number.
        dataset: first argument of `datasets.load_dataset`: hub id, folder, or "json" with `data_files`.
        split, config, data_files: its other arguments.
        problem, answer: columns.
        problem_id: format of the id, from columns and from `index`, the position from 0.
        truth: the ground truth from the answer's column.
    """

    name: str
    title: str
    samples: int
    problems: int
    dataset: str
    split: str
    problem: str
    answer: str
    problem_id: str
    config: str | None = None
    data_files: str | None = None
    truth: Callable[[Any], str] = plain
    paper_problems: int | None = None

    def record(self, row: Mapping[str, Any], index: int) -> dict[str, str]:
        """One published row in the local schema.

        Raises:
            KeyError: a column is missing.
        """
        return {
            "id": f"{self.name}/{self.problem_id.format_map({**row, 'index': index})}",
            "problem": str(row[self.problem]),
            "answer": self.truth(row[self.answer]),
            "source": self.name,
        }


def _math_perturb(kind: str) -> Benchmark:
    # Its authors publish on GitHub, not on the hub; this is a commit of theirs.
    folder = "Kaffaljidhmah2/MATH-Perturb/df4840f680fce405c9449008564574961c7f4df1/math_perturb"
    name = f"math_perturb_{kind}"
    address = f"https://raw.githubusercontent.com/{folder}/{name}.jsonl"
    problem_id = "{original_split}/{problem_id}"
    columns = "problem", "answer"
    return Benchmark(
        name, "MATH-Perturb", 8, 279, "json", "train", *columns, problem_id, data_files=address, paper_problems=187
    )


def _registry(*benchmarks: Benchmark) -> dict[str, Benchmark]:
    return {benchmark.name: benchmark for benchmark in benchmarks}


# name, title, samples, problems, dataset, split, problem, answer, id
# fmt: off
BENCHMARKS = _registry(
    Benchmark("gsm8k", "GSM8K", 8, 1319, "openai/gsm8k", "test", "question", "answer", "test/{index:04d}",
              config="main", truth=after_hashes),
    Benchmark("math500", "MATH500", 8, 500, "HuggingFaceH4/MATH-500", "test", "problem", "answer", "{unique_id}"),
    _math_perturb("simple"),
    _math_perturb("hard"),
    Benchmark("gaokao2023en", "GaoKao2023En", 8, 385, "MARIO-Math-Reasoning/Gaokao2023-Math-En", "train",
              "question", "answer", "{index:03d}"),
    Benchmark("olympiadbench", "OlympiadBench", 8, 675, "Hothan/OlympiadBench", "train", "question", "final_answer",
              "{id}", config="OE_TO_maths_en_COMP", truth=joined),
    Benchmark("amc23", "AMC23/24", 32, 40, "math-ai/amc23", "test", "question", "answer", "{index:02d}",
              paper_problems=45),
    Benchmark("amc24", "AMC23/24", 32, 45, "rawsh/2024_AMC12", "train", "problem", "answer", "{index:02d}"),
    Benchmark("aime24", "AIME24/25/26", 32, 30, "HuggingFaceH4/aime_2024", "train", "problem", "answer", "{index:02d}"),
    Benchmark("aime25", "AIME24/25/26", 32, 30, "math-ai/aime25", "test", "problem", "answer", "{index:02d}"),
    Benchmark("aime26", "AIME24/25/26", 32, 30, "MathArena/aime_2026", "train", "problem", "answer", "{problem_idx}"),
)
# fmt: on


def benchmark(name: str) -> Benchmark:
    """The problem set of that name.

    Raises:
        DatasetError: there is none; the message lists them.
    """
    if name not in BENCHMARKS:
        raise DatasetError(f"no benchmark '{name}': choose from {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
