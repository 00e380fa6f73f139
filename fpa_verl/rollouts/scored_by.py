"""Who says what an imported rollout is worth: a reward function, or the records themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fpa_verl.errors import DatasetError
from fpa_verl.reward.function import KEPT, OURS, RewardFunction
from fpa_verl.reward.verdicts import ContractError, Verdict, read_verdict
from fpa_verl.rollouts.text_rollouts import TextRollout


class Scorer(Protocol):
    """Gives verdicts, and has a name."""

    @property
    def fingerprint(self) -> str: ...

    def verdict(self, rollout: TextRollout, response: str, about: Mapping[str, Any]) -> Verdict:
        """On the response as it is stored; `about` is what else is known of its problem."""

    def as_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class ScoredBy:
    """A reward function, which scores every response.

    Attributes:
        given: it was named on purpose, and what it does not find is so.
    """

    function: RewardFunction = OURS
    given: bool = False

    @property
    def fingerprint(self) -> str:
        return self.function.fingerprint

    def verdict(self, rollout: TextRollout, response: str, about: Mapping[str, Any]) -> Verdict:
        extra_info = {**about, "problem_id": rollout.problem_id}
        return self.function(rollout.source, response, rollout.ground_truth, extra_info)

    def as_json(self) -> dict[str, Any]:
        return self.function.as_json()


@dataclass(frozen=True)
class KeptScores:
    """What the records say that their responses were worth.

    Attributes:
        sha256: of the files.
        threshold: the score from which a response is right; None: 1 is right, 0 and -1 are wrong.
    """

    sha256: str
    threshold: float | None = None

    @property
    def fingerprint(self) -> str:
        return f"{KEPT}/{self.sha256[:16]}" + ("" if self.threshold is None else f" from {self.threshold:g}")

    def verdict(self, rollout: TextRollout, response: str, about: Mapping[str, Any]) -> Verdict:
        del response, about
        if rollout.score is None:
            raise DatasetError(f"{rollout.where}: has no 'score' to be kept that is a number")
        try:
            return read_verdict({"score": rollout.score, "status": rollout.status}, self.threshold)
        except ContractError as error:
            raise DatasetError(f"{rollout.where}: {error}") from error

    def as_json(self) -> dict[str, Any]:
        return {KEPT: True, "threshold": self.threshold}


# Boxes, by our own scorer.
USUAL = ScoredBy()
