r"""Scores a solution by the last complete ``\boxed{}`` in it, graded by math-verify.

Used by verl as ``reward.custom_reward_function``; the same function scores collected rollouts,
GRPO's rollouts, imported text and every evaluation.
"""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from fpa_verl.reward.sandbox import GRADE_TIMEOUT_S, default_pool

# Raise whenever a score could change for any answer. Part of every fingerprint.
SCORER_VERSION = 1

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_INTEGER = re.compile(r"[+-]?\d{1,18}")


def scorer_fingerprint() -> str:
    """Name, version and the version of math-verify, which decides as much as our own code does."""
    return f"math_answer/{SCORER_VERSION}+math-verify/{version('math-verify')}"


def last_boxed(text: str) -> str | None:
    r"""Content of the last ``\boxed{...}`` that is closed, braces balanced; None where there is none.

    A box that the response was cut off in does not count, and an escaped brace opens nothing.
    """
    for opening in reversed(list(_BOX.finditer(text))):
        depth, i = 1, opening.end()
        while i < len(text):
            if text[i] == "\\":
                i += 2
                continue
            depth += (text[i] == "{") - (text[i] == "}")
            if depth == 0:
                return text[opening.end() : i].strip()
            i += 1
    return None


def _normal(answer: str) -> str:
    """Spelling differences that never change the value, removed from gold and answer alike."""
    answer = answer.strip().strip("$").rstrip(".").replace("\\left", "").replace("\\right", "")
    answer = answer.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\!", "")
    return re.sub(r"\s+", "", answer)


def judge(answer: str, ground_truth: str, timeout_s: float = GRADE_TIMEOUT_S) -> str:
    """Status of one extracted answer: right, wrong, timeout, error or bad_ground_truth.

    Equal spellings and plain integers are settled here; everything else runs in a child process
    that can be killed, so neither the calling thread nor a hang in sympy can do harm.
    """
    gold, given = _normal(ground_truth), _normal(answer)
    if not gold:
        return "bad_ground_truth"
    if gold == given:
        return "right"
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(given):
        return "right" if int(gold) == int(given) else "wrong"
    return default_pool().grade(answer=answer, ground_truth=ground_truth, timeout_s=timeout_s)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Score one response, in the shape verl's reward loop wants.

    Args:
        data_source: name of the problem set; every set is scored alike.
        solution_str: the response as text.
        ground_truth: the gold answer, LaTeX or plain.
        extra_info: of the problem; its `problem_id` (or source and index) is echoed, so that results
            can be matched later.

    Returns:
        score and acc (1.0 or 0.0); status: right, wrong, no_answer (the model's doing), timeout,
        error, bad_ground_truth (not the model's doing); extracted: the answer that was graded.
    """
    answer = last_boxed(solution_str)
    status = "no_answer" if answer is None else judge(answer, str(ground_truth))
    score = float(status == "right")
    info = extra_info or {}
    problem_id = str(info.get("problem_id") or f"{data_source}/{info.get('index', '')}")
    return {
        "score": score,
        "acc": score,
        "status": status,
        "extracted": answer or "",
        "problem_id": problem_id,
    }
