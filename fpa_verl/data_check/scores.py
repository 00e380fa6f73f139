"""Whether stored verdicts are those of the scorer: a sample of the texts is scored anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpa_verl.data_check.faults import Faults
from fpa_verl.errors import ConfigError, DatasetError
from fpa_verl.findings import Finding
from fpa_verl.reward.function import KEPT, OURS, RaisedError, RewardFunction
from fpa_verl.reward.sandbox import POOL_SIZE
from fpa_verl.reward.verdicts import MODEL_STATUSES, SCORER_STATUSES, Verdict
from fpa_verl.rollouts.decoding import Decode, scored_text
from fpa_verl.rollouts.manifest import Manifest
from fpa_verl.rollouts.problems import read_problems
from fpa_verl.rollouts.schema import TRAIN, VALIDATION

# What the fingerprint of our own scorer begins with, whatever its version.
OURS_BY_NAME = "math_answer"
# Of trajectories without a verdict, so many are scored anew.
FAILED_SAMPLE = 20
GIVE_IT = "give the function, --reward FILE.py:FUNCTION"


@dataclass(frozen=True)
class Scored:
    """A trajectory as it is stored.

    Attributes:
        where: file and row.
    """

    where: str
    problem_id: str
    response_ids: list[int]
    data_source: str
    ground_truth: str
    status: str


def scorer_of(manifest: Manifest) -> RewardFunction:
    """The function that scored a dataset, as it is now.

    Raises:
        DatasetError: the scores were kept, or the function is not known or not there any more.
    """
    told, known = manifest.origin.get("scorer"), str(manifest.fingerprints.get("scorer"))
    if told is None and known.startswith(f"{OURS_BY_NAME}/"):
        return OURS
    if told is None:
        raise DatasetError(f"scored by {known}, whose file is not recorded: {GIVE_IT}")
    if told.get(KEPT):
        raise DatasetError("the scores are those that the imported records had")
    try:
        function = RewardFunction(**told)
        _ = function.fingerprint, function.function
    except (ConfigError, TypeError) as error:
        raise DatasetError(f"scored by {known}, which cannot be called ({error}): {GIVE_IT}") from error
    return function


def check_scores(
    sample: list[Scored], folder: Path, manifest: Manifest, model: str | None, scorer: RewardFunction
) -> Iterator[Finding]:
    """Score the sample anew and compare; of trajectories whose scorer failed, say what it does with them now.

    Args:
        sample: trajectories of the dataset.
        folder: the dataset's, with the files of its problems.
        manifest: the dataset's; its origin names the tokenizer.
        model: folder or name of another copy of the model.
        scorer: that scores anew.
    """
    try:
        decode = scored_text(manifest, model)
    except DatasetError as error:
        yield Finding("scores", "note", f"no text was scored anew: {error}")
        return
    made_with = manifest.fingerprints.get("scorer")
    if made_with not in (None, scorer.fingerprint):
        yield Finding("scores", "note", f"scored by {made_with}; this is {scorer.fingerprint}")
    known = _known_of(folder)

    def score(one: Scored, text: str) -> Verdict:
        about = known.get(one.problem_id, {"problem_id": one.problem_id})
        return scorer(one.data_source, text, one.ground_truth, about)

    try:
        yield from _compare([one for one in sample if one.status in MODEL_STATUSES], decode, scorer, score)
    except ConfigError as error:
        yield Finding("scores", "wrong", str(error))
    yield from _without_verdict([one for one in sample if one.status in SCORER_STATUSES], decode, score, manifest)


def _known_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What a scorer is told of each problem beside its answer, as collecting and importing told it."""
    known = {}
    for split in (TRAIN, VALIDATION):
        # What is wrong with the files is said where they themselves are looked at; where nothing was held out, one of
        # them is empty.
        with suppress(DatasetError):
            for problem in read_problems(str(folder / f"{split}.parquet")):
                known[problem.problem_id] = {**problem.extra_info, "problem_id": problem.problem_id}
    return known


def _without_verdict(
    failed: list[Scored], decode: Decode, score: Callable[[Scored, str], Verdict], manifest: Manifest
) -> Iterator[Finding]:
    """Trajectories that do not train because the scorer failed, and what it does with some of them now."""
    if not failed:
        return
    counts = {status: manifest.counts.get(f"status_{status}", 0) for status in SCORER_STATUSES}
    number, everything = sum(counts.values()), manifest.counts.get("trajectories", 0)
    by_status = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    now = Counter(_said_now(one, decode(one.response_ids), score) for one in failed)
    (said, times), *others = now.most_common()
    more = f"; {len(others)} more kinds" if others else ""
    yield Finding(
        "scores",
        "wrong" if 2 * number > everything else "note",
        f"{number:,} of {everything:,} have no verdict and do not train ({by_status}); scored anew, {times} of "
        f"{len(failed)}: {said}{more}",
    )


def _said_now(one: Scored, text: str, score: Callable[[Scored, str], Verdict]) -> str:
    """What scoring a trajectory comes to; what is raised for many in the same way is said of one."""
    try:
        status = score(one, text).status
    except RaisedError as error:
        return error.what
    except ConfigError as error:
        return str(error)
    return f"'{status}' once more" if status == one.status else f"'{status}' now: collect or import again"


def _compare(
    sample: list[Scored], decode: Decode, scorer: RewardFunction, score: Callable[[Scored, str], Verdict]
) -> Iterator[Finding]:
    texts = [decode(one.response_ids) for one in sample]
    with ThreadPoolExecutor(POOL_SIZE) as pool:
        verdicts = list(pool.map(score, sample, texts))
    failed = sum(verdict.status not in MODEL_STATUSES for verdict in verdicts)
    differ = [
        (one, verdict)
        for one, verdict in zip(sample, verdicts, strict=True)
        if verdict.status in MODEL_STATUSES and (verdict.status == "right") != (one.status == "right")
    ]
    faults = Faults()
    for one, verdict in differ:
        faults.add(
            "scores",
            f"{one.where}: column 'status' is '{one.status}', scored anew '{verdict.status}' "
            f"(answer {verdict.extracted!r}, ground truth {one.ground_truth!r})",
        )
    silent = next((text for text, verdict in zip(texts, verdicts, strict=True) if verdict.status != "right"), "")
    if why := scorer.why_nothing_counts([verdict.status for verdict in verdicts], silent):
        yield Finding("scores", "wrong", f"{why}. Nothing can train on that: import or collect with the right function")
    fine = f"{len(sample) - failed:,} trajectories scored anew, with the same result"
    yield from faults.findings("scores", "collect or import again, so that one scorer scores all", fine)
    if failed:
        yield Finding("scores", "note", f"{failed:,} of {len(sample):,} could not be scored: the scorer failed")
