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
SCORER_VERSION = 6
# What programs write where there is no value, in whatever wrapping. So does R's NA, alone; sodium is Na.
_MISSING = re.compile(r"[-+]?(?i:nan)|NaT|<NA>|(?i:null|n/a)")
# What they write of None and of a number that overflowed; a person writes \text{none}, \infty, infinity or (-inf, 5).
_PRINTED = re.compile(r"[-+]?(?i:inf)|[-+]?Infinity|None")
# A power of ten as some programs print it, or a sum with Euler's number.
_POWER_OR_SUM = re.compile(r"[-+]?(?!1[eE])\d+[eE][+-]\d")
_WRAPPING = re.compile(
    r"\\(?:text(?:bf|it|rm)?|mbox|math(?:rm|bf|it)|boxed)(?![a-zA-Z])|\\[()\[\]]|[${}\[\]'\"`]|\.\s*\Z"
)
# More boxes than these are a list whatever they say.
MAX_PARTS = 10
# A longer box holds no final answer.
MAX_ANSWER_CHARACTERS = 2_000


def scorer_fingerprint() -> str:
    """Name, version and the versions of what decides beside our own code."""
    libraries = "+".join(f"{name}/{version(name)}" for name in ("math-verify", "latex2sympy2-extended", "sympy"))
    return f"math_answer/{SCORER_VERSION}+{libraries}"


def _says_nothing(ground_truth: str) -> bool:
    """Whether a ground truth is no value, or one of which it cannot be known what it is."""
    parts = [part.rpartition("=")[2].strip("() \n") for part in re.split("[,;]", _WRAPPING.sub("", ground_truth))]
    if any(_MISSING.fullmatch(part) or _POWER_OR_SUM.fullmatch(part) for part in parts) or set(parts) == {"NA"}:
        return True
    is_sentence = "\\text" in ground_truth or ground_truth.strip() == "None."
    is_interval = "(" in ground_truth.replace(r"\(", "")
    return not is_sentence and not is_interval and len(parts) == 1 and _PRINTED.fullmatch(parts[0]) is not None


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
        if len(ground_truth) > MAX_ANSWER_CHARACTERS or _says_nothing(ground_truth):
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
    """The answer to grade: the last complete box, or all that are one answer with it (`boxes.final_boxes`) as a list.

    Boxes that say the same are one, unless the ground truth is a list of as many items. A last box that says what those
    before it say together is the answer.
    """
    boxes = final_boxes(response)
    if len(boxes) < 2:
        return boxes[0] if boxes else None
    gold = cached_readings(ground_truth)[0]
    if (
        isinstance(gold, Group)
        and gold.kind == LIST
        and len(gold.items) == len(boxes)
        and not any(map(_is_list, boxes))
    ):
        return ", ".join(boxes)
    different = list(dict.fromkeys(boxes))
    *before, last = different
    if not before or len(different) > MAX_PARTS:
        return ", ".join(different)
    is_repeated = all(_say_the_same(one, last) for one in before) or _say_the_same(", ".join(before), last)
    return last if is_repeated else ", ".join(different)


def _is_list(answer: str) -> bool:
    try:
        read = cached_readings(answer)[0]
    except UnreadableError:
        return False
    return isinstance(read, Group) and read.kind == LIST


def _say_the_same(a: str, b: str) -> bool:
    try:
        return _settled(cached_readings(a), cached_readings(b)) is True
    except UnreadableError:
        return False


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
