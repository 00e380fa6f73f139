"""Requests and answers as they travel between processes: many together, as flat arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from verl.workers.rollout.replica import TokenOutput

from fpa_verl.integration.servers.client import ABORTED


@dataclass(frozen=True)
class Request:
    """A prompt that wants one answer.

    Attributes:
        number: what the answer is known by.
        sampling: parameters of its own, over those of all that are asked for with it.
    """

    number: int
    prompt_ids: Sequence[int]
    sampling: Mapping[str, Any] = field(default_factory=dict)


class Answer(NamedTuple):
    """What a server made of a request.

    Attributes:
        log_probs: None where they were not asked for.
        extra: what verl's server says beside; None where the request failed.
    """

    number: int
    token_ids: np.ndarray
    log_probs: np.ndarray | None
    extra: dict[str, Any] | None


@dataclass(frozen=True)
class Generated:
    """Answers of a server.

    Attributes:
        numbers: of their requests.
        lengths: tokens of each; 0 where the request failed.
        token_ids, log_probs: of all of them, one behind the other.
        extras: what verl's server says beside; None where the request failed.
    """

    numbers: list[int]
    lengths: list[int]
    token_ids: np.ndarray
    log_probs: np.ndarray | None
    extras: list[dict[str, Any] | None]

    @classmethod
    def of(cls, outputs: Sequence[tuple[int, TokenOutput | None]]) -> Generated:
        """What verl's server returned for each request; None where it raised."""
        numbers, found = [number for number, _ in outputs], [_whole(output) for _, output in outputs]
        ids = [one.token_ids if one else [] for one in found]
        log_probs = [one.log_probs for one in found if one]
        return cls(
            numbers,
            [len(one) for one in ids],
            np.array([i for one in ids for i in one], dtype=np.int32),
            None if None in log_probs else np.array([p for one in log_probs for p in one or ()], dtype=np.float32),
            [one.extra_fields if one else None for one in found],
        )

    def __iter__(self) -> Iterator[Answer]:
        start = 0
        for number, length, extra in zip(self.numbers, self.lengths, self.extras, strict=True):
            there = slice(start, start + length)
            log_probs = None if self.log_probs is None else self.log_probs[there]
            yield Answer(number, self.token_ids[there], log_probs, extra)
            start += length


def _whole(output: TokenOutput | None) -> TokenOutput | None:
    """None for one that the server gave up, or in which nothing is."""
    return output if output and output.token_ids and output.stop_reason not in ABORTED else None
