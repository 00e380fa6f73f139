r"""Scores a solution by the last complete ``\boxed{}`` in it: docs/scorer.md has the rules.

Used by verl as ``reward.custom_reward_function``; the same function scores collected rollouts,
GRPO's rollouts, imported text and every evaluation.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from fpa_verl.reward.answers import LIST, Answer, Group, formulas
from fpa_verl.reward.boxes import final_boxes, last_boxed
from fpa_verl.reward.comparison import same
from fpa_verl.reward.latex import UnreadableError
from fpa_verl.reward.reading import cached_readings
from fpa_verl.reward.sandbox import GRADE_TIMEOUT_S, GROUND_TRUTH_CPU_LIMIT_S, default_pool
from fpa_verl.reward.values import UnsettledError, evaluate

__all__ = ["SCORER_VERSION", "compute_score", "judge", "last_boxed", "scorer_fingerprint"]

# Raise whenever a score could change for any answer. Part of every fingerprint.
SCORER_VERSION = 5
# What programs write where there is no value, or of a number that overflowed: as ground truth it is no answer. A person
# writes \infty, \text{none} or infinity.
_NO_VALUE = re.compile(r"[-+]?(?i:nan|inf)|[-+]?Infinity|None|NaT|<NA>|(?i:null|n/a)")
# A longer box holds no final answer.
MAX_ANSWER_CHARACTERS = 2_000


def scorer_fingerprint() -> str:
    """Name, version and the versions of what decides beside our own code."""
    libraries = "+".join(f"{name}/{version(name)}" for name in ("math-verify", "latex2sympy2-extended", "sympy"))
    return f"math_answer/{SCORER_VERSION}+{libraries}"


def _settled(gold: tuple[Answer, ...], given: tuple[Answer, ...]) -> bool | None:
    """The verdict where it needs no child process, else None."""
    try:
        return any(same(a, b, None) for a in gold for b in given)
    except UnsettledError:
        return None


def _is_plain(gold: Answer) -> bool:
    """Whether every formula in it has a value that needs no computer algebra."""
    try:
        for formula in formulas(gold):
            evaluate(formula)
    except UnsettledError:
        return False
    return True


class _GroundTruths:
    """Which ground truths can be graded at all: a matter of each of them alone, whatever is answered."""

    _CAPACITY = 100_000

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def status(self, ground_truth: str, timeout_s: float) -> str:
        """Give right where it grades itself right; otherwise bad_ground_truth, or timeout or error, which may pass."""
        status = self._known.get(ground_truth)
        if status is None:
            status = self._find(ground_truth, timeout_s)
            if status in ("right", "bad_ground_truth"):
                if len(self._known) >= self._CAPACITY:
                    self._known.clear()
                self._known[ground_truth] = status
        return status

    @staticmethod
    def _find(ground_truth: str, timeout_s: float) -> str:
        if len(ground_truth) > MAX_ANSWER_CHARACTERS or _NO_VALUE.fullmatch(ground_truth.strip()):
            return "bad_ground_truth"
        try:
            if _is_plain(cached_readings(ground_truth)[0]):
                return "right"
        except UnreadableError:
            return "bad_ground_truth"
        status = default_pool().grade(
            answer=ground_truth,
            ground_truth=ground_truth,
            timeout_s=timeout_s,
            cpu_limit_s=GROUND_TRUTH_CPU_LIMIT_S,
        )
        return "bad_ground_truth" if status == "wrong" else status


_ground_truths = _GroundTruths()


def check_ground_truth(ground_truth: str, timeout_s: float = GRADE_TIMEOUT_S) -> str:
    """The status "right" where a ground truth can be read; else the status that every answer to it gets."""
    return _ground_truths.status(str(ground_truth), timeout_s)


def judge(answer: str, ground_truth: str, timeout_s: float = GRADE_TIMEOUT_S) -> str:
    """Status of one extracted answer: right, wrong, timeout, error or bad_ground_truth.

    What needs no computer algebra is settled here, in bounded time; everything else
    runs in a child process that can be killed, so neither the calling thread nor a hang in sympy can do harm.
    """
    status = check_ground_truth(ground_truth, timeout_s)
    if status != "right":
        return status
    if len(answer) > MAX_ANSWER_CHARACTERS:
        return "wrong"
    try:
        verdict = _settled(cached_readings(ground_truth), cached_readings(answer))
    except UnreadableError:
        return "wrong"
    if verdict is None:
        return default_pool().grade(answer=answer, ground_truth=ground_truth, timeout_s=timeout_s)
    return "right" if verdict else "wrong"


def final_answer(response: str, ground_truth: str) -> str | None:
    """The answer to grade: the last complete box.

    Where the ground truth is a list, and as many boxes as it has items end the response with nothing but
    commas or "and" between them, it is the list of those.
    """
    boxes = final_boxes(response)
    if len(boxes) > 1:
        gold = cached_readings(ground_truth)[0]
        if isinstance(gold, Group) and gold.kind == LIST and len(gold.items) == len(boxes):
            return ", ".join(boxes)
    return boxes[-1] if boxes else None


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Score one response, in the shape verl's reward loop wants. Blocks until it is scored; any thread may call.

    Args:
        data_source: name of the problem set; every set is scored alike.
        solution_str: the response as text.
        ground_truth: the gold answer, LaTeX or plain.
        extra_info: what else is known of the problem; nothing in it changes a score.

    Returns:
        score and acc (1.0 or 0.0); status: right, wrong, no_answer (the model's doing), timeout,
        error, bad_ground_truth (not the model's doing); extracted: the answer that was graded.
    """
    gold = str(ground_truth)
    status, answer = check_ground_truth(gold), None
    if status == "right":
        answer = final_answer(solution_str, gold)
        status = "no_answer" if answer is None else judge(answer, gold)
    else:
        answer = last_boxed(solution_str)
    score = float(status == "right")
    return {"score": score, "acc": score, "status": status, "extracted": answer or ""}
