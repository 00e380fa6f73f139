"""What is wrong with problem files, those of a dataset among them: ground truths, repetitions, contamination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fpa_verl.data_check.faults import SHOWN, Faults
from fpa_verl.evaluation.contamination import NEAR, Findings, ProblemIndex
from fpa_verl.evaluation.ground_truths import Unusable, unusable
from fpa_verl.evaluation.problem_sets import ProblemSet, read_problem_set
from fpa_verl.findings import Finding
from fpa_verl.reward.function import OURS, RewardFunction
from fpa_verl.reward.math_answer import check_ground_truth
from fpa_verl.reward.sandbox import POOL_SIZE
from fpa_verl.rollouts.prompts import Prompt

TRUTHS = "ground truths"


@dataclass(frozen=True)
class Against:
    """Evaluation problems to look for among the training problems.

    Attributes:
        sources: files, or benchmarks by name.
        near: share of common runs of five words from which a problem counts as near.
        prompt: how the problems of parquet files are put; None: as they show.
    """

    sources: tuple[str, ...] = ()
    near: float = NEAR
    prompt: Prompt | None = None


def check_problem_file(path: Path, against: Against, scorer: RewardFunction = OURS) -> Iterator[Finding]:
    """Look at one problem file: verl's parquet, or JSON Lines.

    Args:
        path: the file.
        against: evaluation problems to look for.
        scorer: that answers are scored by; only ours says which ground truths it can use.

    Raises:
        DatasetError: it cannot be read.
    """
    if scorer.is_ours:
        found, total = unusable(path)
        yield from _unusable(found, total)
        if len(found) == total:
            return
    else:
        yield Finding(TRUTHS, "note", f"not looked at: only {scorer} knows which of them it can use")
    problems = read_problem_set(str(path), against.prompt)
    yield from (Finding("problems", "note", note) for note in problems.notes(SHOWN))
    yield from contamination(problems, against)


def _unusable(found: list[Unusable], total: int) -> Iterator[Finding]:
    if found:
        yield Finding(TRUTHS, "wrong", f"{len(found):,} of {total:,} ground truths do not grade themselves right:")
        faults = Faults()
        for one in found:
            faults.add(TRUTHS, f"{one.problem_id}: {one.ground_truth!r} ({one.status})")
        yield from faults.findings(TRUTHS, "", "")
        yield Finding(TRUTHS, "wrong", "correct them, or leave those problems out")
    else:
        yield Finding(TRUTHS, "fine", f"all {total:,} grade themselves right")


def check_ground_truths(where: Mapping[str, str]) -> Iterator[Finding]:
    """Ground truths that no answer can be scored against.

    Args:
        where: each ground truth, and file and row of the first trajectory that has it.
    """
    faults = Faults()
    with ThreadPoolExecutor(POOL_SIZE) as pool:
        for truth, status in zip(where, pool.map(check_ground_truth, where), strict=True):
            if status != "right":
                faults.add(TRUTHS, f"{where[truth]}: column 'ground_truth' is {truth!r} ({status})")
    remedy = "correct it in the problem file, and collect or import again; until then its rollouts do not train"
    yield from faults.findings(TRUTHS, remedy, f"all {len(where):,} grade themselves right")


def contamination(training: ProblemSet, against: Against) -> Iterator[Finding]:
    """Evaluation problems that occur among the training problems."""
    if not against.sources:
        return
    known = ProblemIndex(training.texts())
    for source in against.sources:
        problems = read_problem_set(source, against.prompt)
        yield from (Finding("contamination", "note", note) for note in problems.prompt_notes())
        yield from matches_found(
            Path(source).name, known.compare(problems.texts(), against.near), len(problems.problems)
        )


def matches_found(name: str, found: Findings, total: int) -> Iterator[Finding]:
    """The same text is wrong; one that is near is a note, for perturbed problems and templates are near on purpose."""
    faults = Faults()
    for match in found.same:
        faults.add(
            "contamination", f"{name}: problem '{match.evaluation_id}' is training problem '{match.training_id}'"
        )
    fine = f"none of {name}'s {total:,} problems is a training problem"
    yield from faults.findings("contamination", "leave it out of one of the two", fine)
    if near := found.near:
        first = near[0]
        yield Finding(
            "contamination",
            "note",
            f"{len(near):,} of {name}'s {total:,} problems are near a training problem, '{first.evaluation_id}' to "
            f"'{first.training_id}' for one ({first.similarity:.2f}); `fpa-verl data contamination` lists them",
        )
    if note := found.template_note(name, total):
        yield Finding("contamination", "note", note)
