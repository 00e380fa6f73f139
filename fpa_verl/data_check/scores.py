"""Whether stored verdicts are those of the scorer: a sample of the texts is scored anew."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fpa_verl.data_check.faults import Faults
from fpa_verl.errors import DatasetError
from fpa_verl.findings import Finding
from fpa_verl.reward.math_answer import compute_score, scorer_fingerprint
from fpa_verl.reward.sandbox import POOL_SIZE
from fpa_verl.rollouts.decoding import Decode, scored_text
from fpa_verl.rollouts.manifest import Manifest
from fpa_verl.rollouts.schema import MODEL_STATUSES


@dataclass(frozen=True)
class Scored:
    """A trajectory as it is stored.

    Attributes:
        where: file and row.
    """

    where: str
    response_ids: list[int]
    data_source: str
    ground_truth: str
    status: str


def check_scores(sample: list[Scored], manifest: Manifest, model: str | None) -> Iterator[Finding]:
    """Score the sample anew and compare; trajectories whose scorer failed are left out.

    Args:
        sample: trajectories of the dataset.
        manifest: the dataset's; its origin names the tokenizer.
        model: folder or name of another copy of the model.
    """
    try:
        decode = scored_text(manifest, model)
    except DatasetError as error:
        yield Finding("scores", "note", f"no text was scored anew: {error}")
        return
    made_with = manifest.fingerprints.get("scorer")
    if made_with not in (None, scorer_fingerprint()):
        yield Finding("scores", "note", f"scored by {made_with}; this is {scorer_fingerprint()}")
    yield from _compare([one for one in sample if one.status in MODEL_STATUSES], decode)


def _compare(sample: list[Scored], decode: Decode) -> Iterator[Finding]:
    texts = [decode(one.response_ids) for one in sample]
    with ThreadPoolExecutor(POOL_SIZE) as pool:
        verdicts = list(
            pool.map(lambda one, text: compute_score(one.data_source, text, one.ground_truth), sample, texts)
        )
    failed = sum(verdict["status"] not in MODEL_STATUSES for verdict in verdicts)
    differ = [
        (one, verdict)
        for one, verdict in zip(sample, verdicts, strict=True)
        if verdict["status"] in MODEL_STATUSES and (verdict["status"] == "right") != (one.status == "right")
    ]
    faults = Faults()
    for one, verdict in differ:
        faults.add(
            "scores",
            f"{one.where}: column 'status' is '{one.status}', scored anew '{verdict['status']}' "
            f"(answer {verdict['extracted']!r}, ground truth {one.ground_truth!r})",
        )
    fine = f"{len(sample) - failed:,} trajectories scored anew, with the same result"
    yield from faults.findings("scores", "collect or import again, so that one scorer scores all", fine)
    if failed:
        yield Finding("scores", "note", f"{failed:,} of {len(sample):,} could not be scored: the scorer failed")
