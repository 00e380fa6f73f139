"""What a reward function says of a response, read as a verdict; docs/own_task.md has its contract."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

# Verdicts that are the model's own doing and are trained on: R = +1 for right, -1 for the others.
MODEL_STATUSES = ("right", "wrong", "no_answer")
# Verdicts about the scorer or the problem. Counted and shown, never trained on.
SCORER_STATUSES = ("timeout", "error", "bad_ground_truth")
STATUSES = (*MODEL_STATUSES, *SCORER_STATUSES)
# What a score of a function without a threshold may be: right, and two ways to write wrong.
PLAIN_SCORES = (1.0, 0.0, -1.0)


class ContractError(ValueError):
    """What a reward function returned cannot be read as a verdict; the message goes on after its name."""


@dataclass(frozen=True)
class Verdict:
    """What one response is worth.

    Attributes:
        status: one of `STATUSES`.
        extracted: the answer that was graded, "" where there is none or the function does not say.
    """

    status: str
    extracted: str = ""

    @property
    def score(self) -> float:
        """1.0 where it is right, else 0.0: what every recipe is rewarded with."""
        return float(self.status == "right")


def read_verdict(returned: Any, threshold: float | None = None) -> Verdict:
    """Read what a reward function returned.

    Args:
        returned: a number, or a mapping with `score` and, where the function knows them, `status` and `extracted`
            (or `pred`, as verl's own functions call it).
        threshold: the score from which a response is right; None: 1 is right, 0 and -1 are wrong.

    Raises:
        ContractError: there is no score, it is neither of the three without a threshold, or it contradicts the status.
    """
    told = returned if isinstance(returned, Mapping) else {"score": returned}
    extracted = str(next((told[name] for name in ("extracted", "pred") if told.get(name) is not None), ""))
    status = told.get("status")
    if status in SCORER_STATUSES:
        return Verdict(status, extracted)
    is_right = _is_right(told, threshold)
    if status is None:
        return Verdict("right" if is_right else "wrong", extracted)
    if status not in STATUSES:
        raise ContractError(f"returned status {status!r}, which is none of {', '.join(STATUSES)}")
    if is_right != (status == "right"):
        raise ContractError(f"returned status '{status}' with a score of {told['score']:g}, which is the contrary")
    return Verdict(status, extracted)


def _is_right(told: Mapping[str, Any], threshold: float | None) -> bool:
    score = told.get("score")
    try:
        number = float(score) if isinstance(score, Real | np.bool_) else math.nan
    except OverflowError as error:
        raise ContractError("returned a score larger than any float") from error
    if math.isnan(number):
        raise ContractError(f"returned {told!r:.200}, which has no 'score' that is a number")
    if threshold is not None:
        if math.isnan(threshold):
            raise ContractError("cannot be read with a threshold of nan: give a number")
        return number >= threshold
    if number not in PLAIN_SCORES:
        raise ContractError(
            f"returned a score of {number:g}, and it is not known from which score a response is right (1 is right, 0 "
            "and -1 are wrong): set reward.threshold=NUMBER, or --threshold NUMBER of `fpa-verl data`"
        )
    return number == 1.0
