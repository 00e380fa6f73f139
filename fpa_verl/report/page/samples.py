"""A few right and wrong trajectories of the datasets that the runs learned from, token by token."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from fpa_verl.errors import DatasetError
from fpa_verl.report.page.views import Views, read_views
from fpa_verl.rollouts import RolloutDataset
from fpa_verl.rollouts.decoding import Decode, shown_text
from fpa_verl.rollouts.manifest import read_manifest
from fpa_verl.rollouts.schema import CUT_OFF
from fpa_verl.runs.run import Run
from fpa_verl.runs.tokens import MAX_TOKENS

# Upper ends of the classes of probability that the page tells apart.
CLASSES = (0.2, 0.5, 0.8, 0.95)


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
    """One trajectory, by its row in the dataset; the first `shared` tokens are those of its counterpart."""

    row: int
    status: str
    tokens: list[Token]
    shared: int
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


@dataclass(frozen=True)
class Samples:
    """What the page shows of trajectories, or of single steps; where that is none, `why_none`."""

    problems: list[ProblemSamples] = field(default_factory=list)
    views: Views = field(default_factory=Views)
    why_none: str | None = None
    are_steps: bool = False


def read_samples(runs: list[Run]) -> Samples:
    """Samples of the first dataset that is at hand, and what the runs on it noted of them."""
    by_dataset: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.dataset:
            by_dataset[run.dataset.fingerprint].append(run)
    if not by_dataset:
        return Samples(why_none="No run learned from a dataset.")
    reasons = []
    for fingerprint, learned in by_dataset.items():
        folder = Path(learned[0].dataset.folder if learned[0].dataset else "")
        try:
            return _from_dataset(folder, fingerprint, learned)
        except (DatasetError, OSError) as error:
            reasons.append(str(error))
    return Samples(why_none="; ".join(reasons))


def _from_dataset(folder: Path, fingerprint: str, runs: list[Run]) -> Samples:
    manifest = read_manifest(folder)
    if manifest.fingerprint != fingerprint:
        raise DatasetError(f"{folder} holds another dataset by now than the runs learned from")
    decode = shown_text(manifest)
    dataset = RolloutDataset(folder)
    pairs = [(dataset.row(right), dataset.row(wrong)) for right, wrong in dataset.watched]
    if not pairs:
        return Samples(why_none="No problem of the dataset has both a right and a wrong trajectory.")
    sampling = {row["row"]: _log_probs(row) for pair in pairs for row in pair}
    problems = [_problem(*pair, decode) for pair in pairs]
    return Samples(problems, read_views(runs, sampling), are_steps=manifest.holds_steps)


def _log_probs(row: dict[str, Any]) -> list[float] | None:
    log_probs = row["behaviour_log_probs"]
    return None if log_probs is None else log_probs[:MAX_TOKENS]


def _problem(right: dict[str, Any], wrong: dict[str, Any], decode: Decode) -> ProblemSamples:
    both = zip(right["response_ids"], wrong["response_ids"], strict=False)
    shared = sum(1 for _ in takewhile(lambda tokens: tokens[0] == tokens[1], both))
    samples = [_sample(row, min(shared, MAX_TOKENS), decode) for row in (right, wrong)]
    return ProblemSamples(right["problem_id"], decode(right["prompt_ids"]), right["ground_truth"], samples)


def _sample(row: dict[str, Any], shared: int, decode: Decode) -> Sample:
    ids = row["response_ids"][:MAX_TOKENS]
    log_probs = _log_probs(row)
    probabilities = [None] * len(ids) if log_probs is None else [math.exp(value) for value in log_probs]
    tokens = [Token(text, p) for text, p in zip(_token_texts(ids, decode), probabilities, strict=True)]
    truncated = row["finish_reason"] == CUT_OFF or len(row["response_ids"]) > len(ids)
    return Sample(row["row"], row["status"], tokens, shared, truncated)


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
