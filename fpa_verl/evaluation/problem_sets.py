"""Problem sets by name or from a file: what is in them, what is left out of them, and what occurs twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fpa_verl.errors import DatasetError
from fpa_verl.evaluation.benchmarks import BENCHMARKS, Benchmark, benchmark
from fpa_verl.evaluation.wording import normalised
from fpa_verl.rollouts.problems import Problem, all_of_json_lines, problem_from_record, read_problems
from fpa_verl.rollouts.prompts import BOXED, Prompt, prompt_of

if TYPE_CHECKING:
    import datasets

SCHEMA_PAGE = "docs/evaluation.md has the schema"


@dataclass(frozen=True)
class ProblemSet:
    """Problems that can be scored, and what a reader of the set must know.

    Attributes:
        name: the file or the benchmark.
        given: how every problem is put; None: to be found out.
        unanswered: ids of problems that are left out, because they have no ground truth.
        expected: how many problems the benchmark has; None for a file.
    """

    name: str
    problems: list[Problem]
    given: Prompt | None = None
    unanswered: list[str] = field(default_factory=list)
    expected: int | None = None

    @cached_property
    def prompt(self) -> Prompt:
        """How every problem is put."""
        return self.given or prompt_of(p.messages[-1][1] for p in self.problems)

    def texts(self) -> dict[str, str]:
        """Problem id to the text of the problem alone."""
        return {p.problem_id: self.prompt.problem_in(p.messages[-1][1]) for p in self.problems}

    def repeated(self) -> list[list[str]]:
        """Ids of problems whose normalised texts are equal, one list a text."""
        same: dict[str, list[str]] = defaultdict(list)
        for problem_id, text in self.texts().items():
            same[normalised(text)].append(problem_id)
        return [ids for ids in same.values() if len(ids) > 1]

    def prompt_notes(self) -> list[str]:
        """Says so where no problem is put as the prompt says: the texts are then those with another one around them."""
        if any(self.prompt.fits(p.messages[-1][1]) for p in self.problems):
            return []
        return [
            f"no problem of {self.name} reads {self.prompt.text!r}: --prompt NAME or TEXT says how they do, "
            "--prompt '{problem}' that nothing is around them"
        ]

    def notes(self, shown: int | None = None) -> list[str]:
        """Everything about the set that its size does not tell, one line each.

        Args:
            shown: so many texts that occur twice, and ids of a line, are named before the number of the others; None:
                all of them.
        """
        notes = []
        if self.unanswered:
            notes.append(f"left out, without an answer: {_listed(self.unanswered, shown)}")
        repeated = self.repeated()
        notes += [f"the same text: {_listed(ids, shown)}" for ids in repeated[:shown]]
        if more := len(repeated[shown:] if shown is not None else []):
            notes.append(f"and {more:,} more like these")
        notes += self.prompt_notes()
        found = len(self.problems) + len(self.unanswered)
        if self.expected is not None and found != self.expected:
            notes.append(f"{found:,} problems, where {self.expected:,} were expected")
        return notes


def _listed(ids: list[str], shown: int | None) -> str:
    rest = len(ids) - len(ids[:shown])
    return ", ".join(ids[:shown]) + (f" and {rest:,} more" if rest else "")


def read_problem_set(source: str, prompt: Prompt | None = None, dataset: str | None = None) -> ProblemSet:
    """A problem set from a file, or a benchmark by its name.

    Args:
        source: a problem file (.parquet, verl's schema), JSON Lines in the local schema (.gz too), or a
            name in `BENCHMARKS`, which `datasets` loads.
        prompt: how every problem is put; of a .parquet file, how it is put already. None: as `BOXED` has it, or as the
            .parquet file shows.
        dataset: hub id or folder to load a benchmark from, a copy of the one it is published in.

    Raises:
        DatasetError: there is neither such a file nor such a benchmark; it cannot be loaded or is of
            another schema; no problem has an answer; or two problems share an id.
    """
    path, expected = Path(source).expanduser(), None
    if path.is_file():
        found = read_problems(str(path)) if path.suffix == ".parquet" else all_of_json_lines(path, prompt or BOXED)
    elif source in BENCHMARKS:
        wanted = benchmark(source)
        found, expected = _load(wanted, prompt or BOXED, dataset), wanted.problems
    else:
        raise DatasetError(f"no file at {source}, and no benchmark of that name: there are {', '.join(BENCHMARKS)}")
    return _checked(source, found, prompt, expected)


def _checked(source: str, found: list[Problem], prompt: Prompt | None, expected: int | None) -> ProblemSet:
    problems = [problem for problem in found if problem.is_answered]
    if not problems:
        raise DatasetError(f"{source} holds no problem with an answer")
    problem_id, times = Counter(problem.problem_id for problem in problems).most_common(1)[0]
    if times > 1:
        raise DatasetError(f"{source}: {times} problems share the id '{problem_id}': give each its own")
    unanswered = [problem.problem_id for problem in found if not problem.is_answered]
    return ProblemSet(source, problems, prompt, unanswered, expected)


def _load(wanted: Benchmark, prompt: Prompt, dataset: str | None) -> list[Problem]:
    """A benchmark's rows, by way of the local schema."""
    if dataset is not None:
        wanted = replace(wanted, dataset=dataset, data_files=None)
    rows = _load_rows(wanted)
    try:
        records = [wanted.record(row, index) for index, row in enumerate(rows)]
    except KeyError as error:
        raise DatasetError(
            f"{wanted.dataset} has no column {error}, which {wanted.name} is read from; it has "
            f"{', '.join(rows.column_names)}. Give a local file: {SCHEMA_PAGE}"
        ) from error
    return [
        problem_from_record(record, f"{wanted.name}, row {index}", index, wanted.name, prompt)
        for index, record in enumerate(records)
    ]


def _load_rows(wanted: Benchmark) -> datasets.Dataset:
    try:
        import datasets
    except ImportError as error:
        raise DatasetError(f"loading {wanted.name} by name needs `pip install datasets`") from error
    try:
        return datasets.load_dataset(
            wanted.dataset, name=wanted.config, data_files=wanted.data_files, split=wanted.split
        )
    # OSError: no network, nothing at that address; ValueError: no such config or split.
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).partition("\n")[0]
        raise DatasetError(
            f"{wanted.name} cannot be loaded from {wanted.data_files or wanted.dataset} ({reason}). Without a network, "
            f"give a local file ({SCHEMA_PAGE}), or a copy of that data set (--dataset FOLDER)"
        ) from error
