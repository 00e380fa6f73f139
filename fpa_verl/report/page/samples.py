"""A few right and wrong trajectories of the datasets that the runs learned from, token by token."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.report.runs import Run
from fpa_verl.rollouts.fingerprint import digest
from fpa_verl.rollouts.manifest import Manifest, read_manifest, require_whole
from fpa_verl.rollouts.parquet import open_file, reading
from fpa_verl.rollouts.schema import MODEL_STATUSES, TRAIN

PROBLEMS = 4
# Rows looked through for problems that have both; a dataset of the paper's size is not read to its end.
ROWS = 1024
MAX_TOKENS = 1500
# Upper ends of the classes of probability that the page tells apart.
CLASSES = (0.2, 0.5, 0.8, 0.95)
COLUMNS = [
    *("problem_id", "group", "split", "status", "ground_truth"),
    *("prompt_ids", "response_ids", "behaviour_log_probs", "finish_reason"),
]
Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class Token:
    """Its text, and the probability that the model which sampled it gave to it; None where that is not recorded."""

    text: str
    probability: float | None

    @property
    def level(self) -> int:
        """0 for the least likely class, `len(CLASSES)` for the likeliest."""
        return sum(self.probability > end for end in CLASSES) if self.probability is not None else len(CLASSES)


@dataclass(frozen=True)
class Sample:
    """One trajectory."""

    status: str
    tokens: list[Token]
    truncated: bool

    @property
    def is_right(self) -> bool:
        return self.status == "right"


@dataclass(frozen=True)
class ProblemSamples:
    """A right and a wrong trajectory of the same problem."""

    problem_id: str
    prompt: str
    ground_truth: str
    samples: list[Sample]


def read_samples(runs: list[Run]) -> tuple[list[ProblemSamples], str | None]:
    """Samples of the first dataset that is at hand; where there are none, why."""
    datasets = {run.info["dataset"]["fingerprint"]: run.info["dataset"] for run in runs if not run.generates}
    if not datasets:
        return [], "No run learned from a dataset."
    reasons = []
    for fingerprint, dataset in datasets.items():
        try:
            return _from_dataset(Path(dataset.get("folder", "")), fingerprint), None
        except (DatasetError, OSError) as error:
            reasons.append(str(error))
    return [], "; ".join(reasons)


def _from_dataset(folder: Path, fingerprint: str) -> list[ProblemSamples]:
    manifest = read_manifest(folder)
    if digest([[shard.file, shard.sha256] for shard in manifest.shards]) != fingerprint:
        raise DatasetError(f"{folder} holds another dataset by now than the runs learned from")
    decode = _decoder(manifest)
    groups: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    path = require_whole(folder, manifest.shards[0], checksum=True)
    with reading(path):
        rows = next(open_file(path).iter_batches(batch_size=ROWS, columns=COLUMNS)).to_pylist()
    for row in rows:
        if row["split"] == TRAIN and row["status"] in MODEL_STATUSES:
            groups[row["problem_id"], row["group"]].append(row)
    found: list[ProblemSamples] = []
    for (problem_id, _), rows in groups.items():
        right, wrong = ([r for r in rows if (r["status"] == "right") is side] for side in (True, False))
        if right and wrong and len(found) < PROBLEMS:
            prompt = decode(right[0]["prompt_ids"])
            samples = [_sample(row, decode) for row in (right[0], wrong[0])]
            found.append(ProblemSamples(problem_id, prompt, right[0]["ground_truth"], samples))
    return found


def _sample(row: dict[str, Any], decode: Decode) -> Sample:
    ids = row["response_ids"][:MAX_TOKENS]
    log_probs = row["behaviour_log_probs"]
    probabilities = [None] * len(ids) if log_probs is None else [math.exp(value) for value in log_probs[: len(ids)]]
    tokens = [Token(text, p) for text, p in zip(_token_texts(ids, decode), probabilities, strict=True)]
    return Sample(row["status"], tokens, row["finish_reason"] == "length" or len(row["response_ids"]) > len(ids))


def _token_texts(ids: list[int], decode: Decode) -> list[str]:
    """Text of every token such that they add up to the text of all.

    A token may hold a part of a character: then the text appears with the token that completes it.
    """
    texts: list[str] = []
    pending: list[int] = []
    for token in ids:
        pending.append(token)
        text = decode(pending)
        if text.endswith("\N{REPLACEMENT CHARACTER}") and len(pending) < 4:
            texts.append("")
        else:
            texts.append(text)
            pending = []
    return texts


def _decoder(manifest: Manifest) -> Decode:
    """The tokenizer of the model that made the dataset, without torch.

    Raises:
        DatasetError: it is not at hand.
    """
    file = Path(str(manifest.origin.get("model", ""))) / "tokenizer.json"
    if not file.is_file():
        raise DatasetError(f"no tokenizer at {file}: trajectories are stored as token ids and cannot be read without")
    try:
        # Comes with transformers, which a report does not otherwise need.
        from tokenizers import Tokenizer
    except ImportError as error:
        raise DatasetError("trajectories are stored as token ids: `pip install tokenizers` to read them") from error
    tokenizer = Tokenizer.from_file(str(file))
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False)
